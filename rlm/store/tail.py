"""Write-ahead file beside the database: answers live here from their flush until the next checkpoint.

A transaction for each answer would cost fifty times as much as an append, and one for many would make each answer wait. An
append is enough to survive ``kill -9``. A tail is locked as long as its process lives. The next process that uses the store
reads the tails of ended ones into the database. This module knows nothing of SQL, nor of the bytes that it stores.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path

from rlm.core.errors import StoreError
from rlm.core.values import slotted

_HEAD = struct.Struct("<II")  # size and checksum of the following entry
_RUN, _SEQ, _HASH_BYTES = struct.Struct("<cB"), struct.Struct("<Q"), 16
_ROW, _LINES, _TEXT = b"R", b"L", b"T"
_NAME = "{}-tail-{}"


@slotted
class Leftovers:
    """The tail of one run: its row, texts by hash, and groups of lines, each with the number of its first."""

    row: bytes | None = None
    texts: dict[bytes, bytes] = field(default_factory=dict)
    groups: list[tuple[int, bytes]] = field(default_factory=list)


def mark_of(run: str) -> bytes:
    """A run's id as it stands in each entry."""
    name = run.encode()
    return bytes([len(name)]) + name


class Tail:
    """One file, used by one thread at a time. ``run`` is the result of ``mark_of``. Writes raise StoreError."""

    def __init__(self, place: str) -> None:
        self._path = Path(_NAME.format(place, os.urandom(8).hex()))
        unlocked = self._path.with_name(f"{self._path.name}.new")  # other processes see it once it is locked
        try:
            self._file = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(self._path)
        except OSError as error:
            raise StoreError(
                f"a file beside the store {place} cannot be created: {error.strerror}. Name another with --store or store=."
            ) from error
        self._size = 0

    @property
    def is_empty(self) -> bool:
        return self._size == 0

    def append_row(self, run: bytes, row: bytes) -> None:
        self._append(_entry(_ROW, run, b"", row))

    def append_line(self, run: bytes, seq: int, line: bytes, texts: Mapping[bytes, bytes]) -> None:
        """Appends a line, after the texts that it refers to by hash."""
        entries = _entry(_LINES, run, _SEQ.pack(seq), line)
        if texts:
            entries = b"".join([*(_entry(_TEXT, run, digest, data) for digest, data in texts.items()), entries])
        self._append(entries)

    def _append(self, entries: bytes) -> None:
        try:
            written = os.write(self._file, entries)
            while written < len(entries):
                written += os.write(self._file, entries[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise StoreError(
                f"the store cannot grow ({self._path.parent}: {error.strerror}). What was written before is whole; "
                "make room, then `rlm resume` the run."
            ) from error
        self._size += len(entries)

    def clear(self) -> None:
        """Empties the file after a checkpoint."""
        os.ftruncate(self._file, 0)
        self._size = 0

    def leave(self) -> None:
        """Closes the file and leaves it, for the next process or, in a forked child, for the parent."""
        os.close(self._file)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._file)


def _entry(kind: bytes, run: bytes, mark: bytes, data: bytes) -> bytes:
    body = b"".join((kind, run, mark, data))
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


@contextlib.contextmanager
def left_behind(place: str, *, delete: bool = True) -> Iterator[dict[str, Leftovers]]:
    """The tails of ended processes, by run. With ``delete``, they are deleted when the block ends without an error."""
    with contextlib.ExitStack() as stack:
        runs, paths = defaultdict[str, Leftovers](Leftovers), list[Path]()
        for path in _paths(Path(place)):
            try:
                file = stack.enter_context(path.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its process lives, or another process reads it
                continue
            unpack(file.read(), runs)
            paths.append(path)
        for left in runs.values():
            left.groups.sort()
        yield runs
        for path in paths if delete else ():
            with contextlib.suppress(OSError):  # the folder is read-only: it is read again, and adds nothing
                path.unlink()


def count_tails(place: str) -> int:
    """The number of tails; after ``left_behind`` only those of living processes."""
    return len(_paths(Path(place)))


def _paths(place: Path) -> list[Path]:
    prefix = _NAME.format(place.name, "")
    try:
        return [path for path in place.parent.iterdir() if path.name.startswith(prefix) and path.suffix != ".new"]
    except OSError:
        return []


def unpack(data: bytes, runs: dict[str, Leftovers]) -> None:
    """Adds the entries of a tail, up to the first torn one."""
    at = 0
    while at + _HEAD.size <= len(data):
        size, checksum = _HEAD.unpack_from(data, at)
        body = data[at + _HEAD.size : at + _HEAD.size + size]
        if size < _RUN.size or len(body) < size or zlib.crc32(body) != checksum:
            return
        at += _HEAD.size + size
        kind, length = _RUN.unpack_from(body)
        rest = _RUN.size + length
        left = runs[body[_RUN.size : rest].decode()]
        if kind == _TEXT:
            left.texts[body[rest : rest + _HASH_BYTES]] = body[rest + _HASH_BYTES :]
        elif kind == _ROW:
            left.row = body[rest:]
        else:
            left.groups.append((_SEQ.unpack_from(body, rest)[0], body[rest + _SEQ.size :]))
