"""The text of a file that is too large for a ``str``. Each part is read and decoded when it is used.

It behaves like a ``str`` of the whole text: length and offsets are characters, ``isinstance(context, str)`` is true, and slices
are real ``str``. Patterns of ``re`` accept it (see ``mapped_search``). Methods that need a copy of the text use
``str(context)``. For ASCII that is a real ``str`` over the mapped bytes; otherwise it raises MemoryError with advice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ..boot.file_blocks import BLOCK_BYTES, MAX_CHARACTER_BYTES, FileBlocks, decode
from ..boot.shared_text import open_ascii, supports_mapped_text
from .text_parts import Parts, cut_lines, cut_separated, cut_words

WINDOW_BYTES = 4 * BLOCK_BYTES
SHOWN_CHARS = 1_000


class MappedText:
    """Text of a file.

    Args:
        descriptor: the file, which stays open.
        size: its bytes.
    """

    __slots__ = ("_blocks", "_descriptor", "_plain")

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self._blocks = FileBlocks(self._bytes, size, descriptor)
        self._plain: str | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """``str``, so that code that asks for text finds it."""
        return str

    def add_counts(self, first: int, counts: bytes) -> None:
        """Takes counts of the host, see ``FileBlocks``."""
        self._blocks.add_counts(first, counts)

    def _bytes(self, start: int, end: int) -> bytes:
        """Bytes of the file, read and not mapped: mapped pages would count as memory of this process."""
        parts = []
        while start < end and (part := os.pread(self._descriptor, end - start, start)):
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _text(self, start: int, end: int) -> str:
        """Text between two bytes that begin characters."""
        return decode(self._bytes(start, end), start)

    def plain(self) -> str | None:
        """The whole text as a ``str`` over the mapped bytes, if all of it is known to be ASCII."""
        if self._plain is None and self._blocks.is_ascii and supports_mapped_text():
            self._plain = open_ascii(self._descriptor, self._blocks.size)
        return self._plain

    def windows(self, start: int = 0) -> Iterator[tuple[int, int, str]]:
        """The text from a byte on in pieces: first byte, last byte and text of each."""
        while start < self._blocks.size:
            end = self._blocks.start((start + WINDOW_BYTES) // BLOCK_BYTES)
            yield start, end, self._text(start, end)
            start = end

    def byte_of(self, char: int) -> int:
        return self._blocks.byte_of(char)

    def char_of(self, byte: int) -> int:
        return self._blocks.char_of(byte)

    def between(self, start: int, size_bytes: int) -> tuple[str, bool]:
        """At least ``size_bytes`` of text from a byte on, and True if it ends with the file."""
        end = self._blocks.start(-(-(start + size_bytes) // BLOCK_BYTES))
        return self._text(start, end), end == self._blocks.size

    def __len__(self) -> int:
        return self._blocks.total_chars()

    def __bool__(self) -> bool:
        return self._blocks.size > 0

    def __iter__(self) -> Iterator[str]:
        for _, _, text in self.windows():
            yield from text

    def __getitem__(self, key: Any) -> str:
        if not isinstance(key, slice):
            index = key.__index__()
            text = self._tail(-index) if index < 0 else self._slice(index, index + 1)
            if len(text) < (-index if index < 0 else 1):
                raise IndexError("string index out of range")
            return text[min(index, 0)]
        start, stop = key.start, key.stop
        if key.step in (None, 1):
            if start is not None and start < 0 and (stop is None or stop < 0):
                return self._tail(-start)[start:stop]
            if (start is None or start >= 0) and (stop is None or stop >= 0):
                return self._slice(start or 0, stop)
        first, last, step = key.indices(len(self))
        places = range(first, last, step)
        if not places:
            return ""
        low, high = min(places[0], places[-1]), max(places[0], places[-1])
        return self._slice(low, high + 1)[::step]

    def _slice(self, start: int, stop: int | None) -> str:
        if stop is not None and stop <= start:
            return ""
        first = self.byte_of(start)
        return self._text(first, self._blocks.size if stop is None else self.byte_of(stop))

    def _tail(self, chars: int) -> str:
        """At least the last ``chars`` characters, or all of them."""
        start = max(self._blocks.size - chars * MAX_CHARACTER_BYTES, 0)
        start = self._blocks.start(start // BLOCK_BYTES)
        return self._text(start, self._blocks.size)

    def _span(self, start: int | None, end: int | None) -> tuple[int, int]:
        """Bytes of a part that is given in characters, as ``str.find`` takes it."""
        first, last, _ = (
            slice(start, end).indices(len(self)) if (start or 0) < 0 or (end or 0) < 0 else (start or 0, end, 1)
        )
        return self.byte_of(first), self._blocks.size if last is None else self.byte_of(last)

    def _encoded(self, part: Any) -> bytes | None:
        """Bytes to look for; None if they cannot be in the file."""
        if not isinstance(part, str):
            raise TypeError(f"must be str, not {type(part).__name__}")
        try:
            return str(part).encode()
        except UnicodeEncodeError:
            return None

    def find(self, part: str, start: int | None = None, end: int | None = None) -> int:
        data, (first, last) = self._encoded(part), self._span(start, end)
        at = -1 if data is None else self._find(data, first, last)
        return -1 if at < 0 else self.char_of(at)

    def _find(self, data: bytes, first: int, last: int) -> int:
        """The first place of ``data`` between two bytes, or -1."""
        if not data:
            return first if first <= last else -1
        for low in range(first, last, WINDOW_BYTES):
            at = self._bytes(low, min(low + WINDOW_BYTES + len(data) - 1, last)).find(data)
            if at >= 0:
                return low + at
        return -1

    def rfind(self, part: str, start: int | None = None, end: int | None = None) -> int:
        data, (first, last) = self._encoded(part), self._span(start, end)
        if data is None:
            return -1
        while last >= first:
            low = max(first, last - WINDOW_BYTES)
            at = self._bytes(low, last).rfind(data)
            if at >= 0:
                return self.char_of(low + at)
            if low == first:
                break
            last = low + len(data) - 1
        return -1

    def index(self, part: str, start: int | None = None, end: int | None = None) -> int:
        return _found(self.find(part, start, end))

    def rindex(self, part: str, start: int | None = None, end: int | None = None) -> int:
        return _found(self.rfind(part, start, end))

    def count(self, part: str, start: int | None = None, end: int | None = None) -> int:
        data, (first, last) = self._encoded(part), self._span(start, end)
        if data is None:
            return 0
        if not data:
            return self.char_of(last) - self.char_of(first) + 1
        total = 0
        if any(data.startswith(data[at:]) for at in range(1, len(data))):  # matches can overlap: one by one
            while (at := self._find(data, first, last)) >= 0:
                total, first = total + 1, at + len(data)
            return total
        for low in range(first, last, WINDOW_BYTES):
            total += self._bytes(low, min(low + WINDOW_BYTES + len(data) - 1, last)).count(data)
        return total

    def __contains__(self, part: object) -> bool:
        data = self._encoded(part)
        return data is not None and self._find(data, 0, self._blocks.size) >= 0

    def startswith(self, prefix: str | tuple[str, ...], start: int = 0, end: int | None = None) -> bool:
        longest = max(map(len, prefix), default=0) if isinstance(prefix, tuple) else len(prefix)
        start = max(start + len(self), 0) if start < 0 else start
        stop = start + longest
        if end is not None:
            stop = min(stop, end if end >= 0 else end + len(self))
        return self[start : max(stop, start)].startswith(prefix)

    def endswith(self, suffix: str | tuple[str, ...], *span: Any) -> bool:
        if span:
            return self[slice(*span)].endswith(suffix)
        longest = max(map(len, suffix), default=0) if isinstance(suffix, tuple) else len(suffix)
        return self[-longest:].endswith(suffix) if longest else True

    def isascii(self) -> bool:
        len(self)  # counts all blocks
        return self._blocks.is_ascii

    def split(self, sep: str | None = None, maxsplit: int = -1) -> Any:
        """The parts, cut when they are used: a sequence without a copy of the text. With ``maxsplit``, a list."""
        if sep == "":
            raise ValueError("empty separator")
        if maxsplit < 0:
            return Parts(self, cut_words if sep is None else cut_separated(sep))
        if sep is None:
            return str(self).split(None, maxsplit)
        parts: list[str] = []
        start = 0
        while len(parts) < maxsplit and (at := self.find(sep, start)) >= 0:
            parts.append(self[start:at])
            start = at + len(sep)
        return [*parts, self[start:]]

    def splitlines(self, keepends: bool = False) -> Parts:
        """The lines, cut when they are used: a sequence without a copy of the text."""
        return Parts(self, cut_lines(keepends))

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        if not isinstance(other, str) or len(self) != len(other):
            return False
        at = 0
        for _, _, text in self.windows():
            if other[at : at + len(text)] != text:
                return False
            at += len(text)
        return True

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        text = self.plain() if self.isascii() else None
        if text is not None:
            return text
        raise MemoryError(
            f"a copy of this text of {self._blocks.size:,} bytes does not fit: use slices, find, re.finditer, or iterate over "
            "context.splitlines()"
        )

    def __repr__(self) -> str:
        head = repr(self[:SHOWN_CHARS])
        return f"{head[:-1]}...{head[-1]} (text of a file of {self._blocks.size:,} bytes)"

    def __reduce__(self) -> Any:
        return str, (str(self),)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or not hasattr(str, name):
            raise AttributeError(f"'str' object has no attribute {name!r}")
        return getattr(str(self), name)

    def __add__(self, other: str) -> str:
        return str(self) + other

    def __radd__(self, other: str) -> str:
        return "".join((other, str(self)))

    def __mul__(self, number: int) -> str:
        return str(self) * number

    def __mod__(self, values: Any) -> str:
        text: str = str(self) % values
        return text

    def __format__(self, form: str) -> str:
        return format(str(self), form)

    def __lt__(self, other: str) -> bool:
        return self[: len(other) + 1] < other

    def __gt__(self, other: str) -> bool:
        return self[: len(other) + 1] > other

    def __le__(self, other: str) -> bool:
        return self[: len(other) + 1] <= other

    def __ge__(self, other: str) -> bool:
        return self[: len(other) + 1] >= other


def _found(at: int) -> int:
    if at < 0:
        raise ValueError("substring not found")
    return at


def open_mapped_text(descriptor: int, header: Mapping[str, Any]) -> MappedText:
    """Opens a file as described by ``rlm.sandbox.shared_memory.Header``."""
    return MappedText(descriptor, header["size"])
