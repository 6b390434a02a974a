"""Index of a large text file: the number of characters before each block of a mebibyte, counted when it is needed.

Offsets of a text are characters and offsets of a file are bytes, which differ in UTF-8. With the index, one is found from the
other by decoding one block. The host counts in advance and sends what it has (``counts``); the REPL counts the rest.
"""

from __future__ import annotations

import errno
import os
import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable

BLOCK_BYTES = 1 << 20
MAX_CHARACTER_BYTES = 4


class FileBlocks:
    """Blocks of one file in UTF-8.

    Args:
        read: returns the bytes from one offset to another.
        size: of the file in bytes.
        descriptor: of the file, to skip its holes; -1 reads them.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, descriptor: int = -1) -> None:
        self._read = read
        self.size = size
        self._descriptor = descriptor
        # Of each block counted, and of the one after them: the characters before it, and its first byte.
        self._before, self._starts = array("q", [0]), array("q", [0])
        self._lock = threading.Lock()
        self.total_blocks = -(-size // BLOCK_BYTES)

    @property
    def counted(self) -> int:
        """The number of blocks that were counted, from the first on."""
        return len(self._before) - 1

    @property
    def is_complete(self) -> bool:
        return self.counted >= self.total_blocks

    @property
    def is_ascii_so_far(self) -> bool:
        return self._before[-1] == self._starts[self.counted]

    @property
    def is_ascii(self) -> bool:
        """True once all of the file is known to be ASCII."""
        return self.is_complete and self._before[-1] == self.size

    def counts(self, first: int) -> bytes:
        """The counts from a block on, for ``add_counts``."""
        last = self.counted + 1
        return (self._before[first + 1 : last] + self._starts[first + 1 : last]).tobytes()

    def add_counts(self, first: int, counts: bytes) -> None:
        """Continues the index with counts from block ``first`` on, as ``counts`` returns them."""
        if first > self.counted:
            return
        words = array("q")
        words.frombytes(counts)
        half, counted = len(words) // 2, self.counted - first
        self._starts += words[half + counted :]
        self._before += words[counted:half]

    def start(self, block: int) -> int:
        """The first byte of a block: that of the character at its nominal offset."""
        if block < len(self._starts):
            return self._starts[block]
        at = min(block * BLOCK_BYTES, self.size)
        return at if at == self.size else at - _cut_bytes(self._read(at - MAX_CHARACTER_BYTES, at))

    def count_next(self) -> None:
        """Counts one more block, if there is one. Can be called in any thread.

        Raises:
            ValueError: the bytes are not UTF-8.
        """
        with self._lock:
            if not self.is_complete:
                self._count_next()

    def _count_next(self) -> None:
        start = self._starts[self.counted]
        end = min((self.counted + 1) * BLOCK_BYTES, self.size)
        chars = end - start
        if not self._is_hole(start, end):
            data = self._read(start, end)
            if not data.isascii():
                cut = 0 if end == self.size else _cut_bytes(data[-MAX_CHARACTER_BYTES:])
                chars, end = len(decode(data[: len(data) - cut], start)), end - cut
        self._starts.append(end)
        self._before.append(self._before[-1] + chars)

    def _is_hole(self, start: int, end: int) -> bool:
        """True for bytes that a sparse file does not store, which are zeros."""
        if self._descriptor < 0:
            return False
        try:
            return os.lseek(self._descriptor, start, os.SEEK_DATA) >= end
        except OSError as error:
            return error.errno == errno.ENXIO  # there is no data from here on

    def total_chars(self) -> int:
        """The length of the text, which counts all blocks."""
        while not self.is_complete:
            self.count_next()
        return self._before[-1]

    def byte_of(self, char: int) -> int:
        """The byte at which a character starts; the end of the file beyond the last one."""
        while self._before[-1] <= char and not self.is_complete:
            self.count_next()
        if char >= self._before[-1]:
            return self.size
        block = bisect_right(self._before, char) - 1
        start, within = self.start(block), char - self._before[block]
        if not within or self._has_narrow(block):
            return start + within
        text = decode(self._read(start, self.start(block + 1)), start)
        return start + len(text[:within].encode())

    def char_of(self, byte: int) -> int:
        """The character that starts at a byte."""
        block = min(byte // BLOCK_BYTES, self.total_blocks)
        while self.counted < block:
            self.count_next()
        if block and self.start(block) > byte:
            block -= 1
        start = self.start(block)
        if byte == start:
            return self._before[block]
        if self.counted > block and self._has_narrow(block):
            return self._before[block] + byte - start
        return self._before[block] + len(decode(self._read(start, byte), start))

    def _has_narrow(self, block: int) -> bool:
        return self._before[block + 1] - self._before[block] == self.start(block + 1) - self.start(block)


def _cut_bytes(tail: bytes) -> int:
    """The number of bytes at the end of a part that begin a character and do not end it."""
    for back, byte in enumerate(reversed(tail), 1):
        if byte & 0xC0 != 0x80:  # not a continuation
            length = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if length > back else 0
    return 0


def decode(data: bytes, at: int) -> str:
    """Decodes a part of the file from byte ``at`` on. Raises ValueError that names the offset of a wrong byte."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        bad = error.object[error.start : error.start + 1].hex()
        raise ValueError(
            f"the file is not valid UTF-8: byte 0x{bad} at offset {at + error.start:,} ({error.reason})"
        ) from None
