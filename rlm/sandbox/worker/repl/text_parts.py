"""Parts of a large text, such as its lines, cut when they are used."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Protocol, TypeAlias

Cut: TypeAlias = Callable[[str, bool], "tuple[list[str], int]"]
"""Cuts a piece of text. Returns its whole parts, and the number of characters at its end that belong to a later part.

The second argument is True for the last piece.
"""
PIECE_BYTES = 4 << 20


class PiecedText(Protocol):
    """Text that can be read in pieces."""

    def between(self, start: int, size_bytes: int) -> tuple[str, bool]: ...


def cut_lines(keepends: bool) -> Cut:
    """The rule of ``str.splitlines``."""

    def cut(text: str, is_last: bool) -> tuple[list[str], int]:
        lines = text.splitlines(keepends=True)
        left = 0
        if lines and not is_last and (lines[-1].endswith("\r") or len(lines[-1].splitlines()[0]) == len(lines[-1])):
            left = len(lines.pop())
        return (lines if keepends else [line.splitlines()[0] for line in lines]), left

    return cut


def cut_separated(separator: str) -> Cut:
    """The rule of ``str.split`` with a separator."""

    def cut(text: str, is_last: bool) -> tuple[list[str], int]:
        parts = str(text).split(separator)
        return (parts, 0) if is_last else (parts, len(parts.pop()))

    return cut


def cut_words(text: str, is_last: bool) -> tuple[list[str], int]:
    """The rule of ``str.split`` without a separator."""
    words = text.split()
    if not words or is_last or text[-1].isspace():
        return words, 0
    return words, len(words.pop())


class Parts(Sequence[str]):
    """A sequence of parts that holds one piece of the text at a time. Iterating is fast; an index costs a piece."""

    def __init__(self, text: PiecedText, cut: Cut) -> None:
        self._text = text
        self._cut = cut
        self._starts = [0]  # the byte at which each piece starts
        self._before = [0]  # parts before each piece
        self._ended = False
        self._cached: tuple[int, list[str]] = (-1, [])

    def _piece(self, number: int) -> list[str]:
        """The parts of one piece; the pieces before it are known."""
        if self._cached[0] == number:
            return self._cached[1]
        start, size = self._starts[number], PIECE_BYTES
        while True:
            text, is_last = self._text.between(start, size)
            parts, left = self._cut(text, is_last)
            if parts or not left or is_last:
                break
            size *= 2  # one part is longer than the piece
        if number + 1 == len(self._starts):
            self._before.append(self._before[-1] + len(parts))
            if is_last:
                self._ended = True
            else:
                self._starts.append(start + len(text[: len(text) - left].encode()))
        self._cached = number, parts
        return parts

    def _pieces(self) -> Iterator[list[str]]:
        number = 0
        while number < len(self._starts):
            yield self._piece(number)
            number += 1

    def __iter__(self) -> Iterator[str]:
        for parts in self._pieces():
            yield from parts

    def __len__(self) -> int:
        while not self._ended:
            self._piece(len(self._starts) - 1)
        return self._before[-1]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            if any(bound is not None and bound < 0 for bound in (key.start, key.stop, key.step)):
                return [self[index] for index in range(*key.indices(len(self)))]
            return list(islice(self._from(key.start or 0), 0, self._count(key), key.step or 1))
        index = key.__index__()
        index = index + len(self) if index < 0 else index
        for part in self._from(index) if index >= 0 else ():
            return part
        raise IndexError("list index out of range")

    def _from(self, index: int) -> Iterator[str]:
        """The parts from an index on."""
        while self._before[-1] <= index and not self._ended:
            self._piece(len(self._starts) - 1)
        number = max(bisect_right(self._before, index) - 1, 0)
        skip = index - self._before[number]
        while number < len(self._starts):
            yield from islice(self._piece(number), skip, None)
            number, skip = number + 1, 0

    @staticmethod
    def _count(key: slice) -> int | None:
        return None if key.stop is None else max(key.stop - (key.start or 0), 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | Parts) or len(self) != len(other):
            return False
        return all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:10]))
        return f"[{shown}, ...] (parts of a file, cut when they are used; list(...) copies them)"
