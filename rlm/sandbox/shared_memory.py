"""Contexts shared by all REPLs of a host, each written once to a sealed memory file that the REPLs map.

The file holds text in CPython's own in-memory form, so that a REPL neither decodes nor copies it (see
``worker.boot.shared_text``). An input file is read and decoded in pieces, so the host never holds it whole. After sealing,
no process can change the memory file, not even this one.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import sys
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Literal, TextIO, TypeAlias, TypeGuard

from rlm.core.cells import PlainValue
from rlm.core.errors import ContextError
from rlm.core.values import frozen
from rlm.sandbox.worker.boot.shared_text import ASCII, CODECS, ENTRY_WORDS, ERRORS, LATIN, UCS2, UCS4, WIDTHS
from rlm.sandbox.worker.wire.values import NotPlain, dump

Shape: TypeAlias = Literal["str", "list", "dict", "plain"]
PIECE = 1 << 20  # characters or bytes handled at a time
SMALL_WRITE = 64 * 1024


@frozen
class Header:
    """Layout of a shared context, which a REPL needs to open it.

    Attributes:
        shape: "str", "list" of str, "dict" of str to str, or "plain". A dict stores all keys first, then all values. Plain
            data stands at the start of the file, encoded as ``kind`` (see ``worker.wire.values``).
        size: bytes of the whole file.
        count: number of strings.
        table_at: offset of the table of strings.
        length: bytes of plain data.
        kind: kind of plain data.
    """

    shape: Shape
    size: int
    count: int = 0
    table_at: int = 0
    length: int = 0
    kind: str = ""


class SharedContext:
    """A context in a sealed memory file. Close it when no further REPL needs it; REPLs that opened it are not affected."""

    def __init__(self, descriptor: int, header: Header) -> None:
        self.header = header
        self.source: str | None = None  # set by a pool that finds contexts by the identity of their text
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, once for the whole machine."""
        return self.header.size

    def fileno(self) -> int:
        """The memory file's descriptor.

        Raises:
            ContextError: it was closed.
        """
        if not self._close.alive:
            raise ContextError("this shared context was closed; share the value again")
        return self._descriptor

    def close(self) -> None:
        """Releases the host's own reference. Safe to call twice."""
        self._close()


def can_share() -> bool:
    """True on Linux, which alone has memory files that can be sealed."""
    return sys.platform == "linux" and hasattr(os, "memfd_create")


def share_context(value: PlainValue | BinaryIO | TextIO, *, encoding: str = "utf-8", name: str = "") -> SharedContext:
    """Writes a context into memory that REPLs can share.

    Args:
        value: text, a list or dict of texts, other plain data, or an open file. A file is read from its start and decoded
            exactly: line ends, NUL and byte order marks are preserved.
        encoding: of a file.
        name: name of a file in error messages; its own name by default.

    Raises:
        ContextError: the data cannot enter a sandbox, or the file has another encoding. The message names the offset.
    """
    writer = _Writer()
    try:
        header = _write(writer, value, encoding, name)
        writer.seal()
    except BaseException:
        os.close(writer.descriptor)
        raise
    return SharedContext(writer.descriptor, header)


def _write(writer: _Writer, value: PlainValue | BinaryIO | TextIO, encoding: str, name: str) -> Header:
    if isinstance(value, str):
        return writer.finish("str", [_pieces_of(value)])
    if type(value) is list and value and all(type(item) is str for item in value):
        return writer.finish("list", [_pieces_of(item) for item in value])
    if type(value) is dict and value and all(type(part) is str for pair in value.items() for part in pair):
        return writer.finish("dict", [_pieces_of(text) for text in (*value, *value.values())])
    if isinstance(value, io.StringIO):
        return writer.finish("str", [_pieces_of(value.getvalue())])
    if is_file(value):
        label = name or str(getattr(value, "name", "the file"))
        with contextlib.ExitStack() as stack:
            return writer.finish("str", [_decoded(_as_seekable(_binary(value), stack), encoding, label)])
    try:
        kind, payload = dump(value, strict=True)
    except NotPlain as error:
        raise ContextError(
            f"the context cannot enter the sandbox: {error}. Pass text, or lists and dicts of plain data."
        ) from None
    writer.write(payload)
    return Header("plain", max(len(payload), 1), length=len(payload), kind=kind)


def is_file(value: object) -> TypeGuard[BinaryIO | TextIO]:
    return hasattr(value, "read") and hasattr(value, "fileno")


def _binary(file: BinaryIO | TextIO) -> BinaryIO:
    """The underlying bytes of a text file, which has an encoding of its own and translates line ends."""
    return file.buffer if isinstance(file, io.TextIOBase) else file  # type: ignore[return-value]


Pieces: TypeAlias = Callable[[], Iterator[str]]
"""An iterator over the pieces of one text, which starts again at each call."""


class _Writer:
    """A memory file that is being written."""

    def __init__(self) -> None:
        if not can_share():
            raise ContextError("shared contexts need Linux; pass the value itself")
        self.descriptor = os.memfd_create("rlm-context", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._at = 0
        self._pending = bytearray()  # many small documents share a system call

    def write(self, data: bytes) -> None:
        self._at += len(data)
        if len(data) < SMALL_WRITE:
            self._pending += data
            if len(self._pending) < PIECE:
                return
            data = b""
        self._flush()
        self._write_through(data)

    def _flush(self) -> None:
        pending, self._pending = bytes(self._pending), bytearray()
        self._write_through(pending)

    def _write_through(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self.descriptor, view) :]
            except OSError as error:
                raise ContextError(
                    f"no memory for a context of more than {self._at:,} bytes: {error.strerror}"
                ) from error

    def finish(self, shape: Shape, texts: Iterable[Pieces]) -> Header:
        """Writes all texts and their table."""
        table = array("Q")
        for pieces in texts:
            form, length = _measure(pieces)
            self._align()
            table.extend((self._at << 2 | form, length))
            for piece in pieces():
                self.write(piece.encode(CODECS[form], ERRORS if form >= UCS2 else "strict"))
            self.write(bytes(WIDTHS[form]))  # CPython expects one more character, zero, after every string
        self._align()
        header = Header(shape, self._at + max(len(table) * 8, 1), len(table) // ENTRY_WORDS, self._at)
        self.write(table.tobytes() or b"\0")
        return header

    def seal(self) -> None:
        """Seals the file: no process can write, grow or shrink it any more."""
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        if self._at == 0:
            self.write(b"\0")  # an empty file cannot be mapped
        self._flush()
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)

    def _align(self) -> None:
        self.write(bytes(-self._at % 8))


def _measure(pieces: Pieces) -> tuple[int, int]:
    """The narrowest form that holds a text, as CPython would choose it, and the text's length."""
    form, length = ASCII, 0
    for piece in pieces():
        length += len(piece)
        if form < UCS4:
            form = max(form, _form_of(piece))
    return form, length


def _form_of(text: str) -> int:
    if text.isascii():
        return ASCII
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        wide = len(text.encode("utf-16-le", ERRORS)) > 2 * len(text)  # characters beyond UCS-2 take two units each
        return UCS4 if wide else UCS2
    return LATIN


def _pieces_of(text: str) -> Pieces:
    return lambda: (text[start : start + PIECE] for start in range(0, len(text), PIECE))


def _decoded(file: BinaryIO, encoding: str, label: str) -> Pieces:
    try:
        new_decoder = codecs.getincrementaldecoder(encoding)
    except LookupError:
        raise ContextError(
            f"`encoding` must be a known encoding such as 'utf-8', 'latin-1' or 'utf-16'; got {encoding!r}"
        ) from None

    def pieces() -> Iterator[str]:
        file.seek(0)
        decoder = new_decoder("strict")
        done = 0
        while True:
            data = file.read(PIECE)
            pending = len(decoder.getstate()[0])
            try:
                text = decoder.decode(data, final=not data)
            except UnicodeDecodeError as error:
                offset = done - pending + error.start
                bad = error.object[error.start : error.start + 1].hex()
                raise ContextError(
                    f"{label} is not valid {encoding}: byte 0x{bad} at offset {offset:,} ({error.reason}). "
                    "Name its encoding, or pass its bytes."
                ) from None
            done += len(data)
            if text:
                yield text
            if not data:
                return

    return pieces


def _as_seekable(file: BinaryIO, stack: contextlib.ExitStack) -> BinaryIO:
    """Copies a pipe into a memory file, because a pipe can be read only once."""
    if file.seekable():
        return file
    copy = stack.enter_context(os.fdopen(os.memfd_create("rlm-input", os.MFD_CLOEXEC), "w+b"))
    while data := file.read(PIECE):
        copy.write(data)
    copy.flush()
    return copy
