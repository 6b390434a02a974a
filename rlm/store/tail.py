"""What is answered, from the moment of the answer until the database has it: a file beside the database, only appended to.

A transaction for each answer would cost fifty times as much as one append, and one for many makes each answer wait. So an
answer is appended here, which is enough to survive ``kill -9``, and the database gets it with the next group. A tail is locked
for as long as its process lives; what it holds when that process is gone, whoever uses the store next takes into the database.
It knows nothing of SQL, and not what the bytes say.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlm.core.errors import StoreError

_HEAD = struct.Struct("<II")  # bytes of the record that follows, and their checksum
_RUN, _SEQ, _HASH_BYTES = struct.Struct("<cB"), struct.Struct("<Q"), 16
_ROW, _LINES, _TEXT = b"R", b"L", b"T"
_NAME = "{}-tail-{}"


@dataclass(slots=True)
class Leftovers:
    """What is left of one run: what it began with, texts by hash, and groups of lines, each with the number of its first."""

    row: bytes | None = None
    texts: dict[bytes, bytes] = field(default_factory=dict)
    groups: list[tuple[int, bytes]] = field(default_factory=list)


def mark_of(run: str) -> bytes:
    """A run, as a tail has it with each record."""
    name = run.encode()
    return bytes([len(name)]) + name


class Tail:
    """One file. To be used by one thread at a time. Everything raises StoreError where the disk does not take it.

    ``run`` is what ``mark_of`` makes of one.
    """

    def __init__(self, place: str) -> None:
        self._path = Path(_NAME.format(place, secrets.token_hex(8)))
        unlocked = self._path.with_name(f"{self._path.name}.new")  # others see it when it is locked, not before
        try:
            self._file = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(self._path)
        except OSError as error:
            raise StoreError(
                f"no file can be made beside the store {place}: {error.strerror}. Name another with --store or store=."
            ) from error
        self._size = 0

    @property
    def is_empty(self) -> bool:
        return self._size == 0

    def append_row(self, run: bytes, row: bytes) -> None:
        self._append(_record(_ROW, run, b"", row))

    def append_line(self, run: bytes, seq: int, line: bytes, texts: Mapping[bytes, bytes]) -> None:
        """Returns when it, and the texts by hash that it refers to, will survive the end of this process."""
        made = _record(_LINES, run, _SEQ.pack(seq), line)
        if texts:
            made = b"".join([*(_record(_TEXT, run, digest, data) for digest, data in texts.items()), made])
        self._append(made)

    def _append(self, records: bytes) -> None:
        try:
            written = os.write(self._file, records)
            while written < len(records):
                written += os.write(self._file, records[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise StoreError(
                f"the store cannot grow ({self._path.parent}: {error.strerror}). What was written before is whole; "
                "make room, then `rlm resume` the run."
            ) from error
        self._size += len(records)

    def clear(self) -> None:
        """The database has all of it."""
        os.ftruncate(self._file, 0)
        self._size = 0

    def leave(self) -> None:
        """For whoever uses the store next; in a forked child, for its parent."""
        os.close(self._file)

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._file)


def _record(kind: bytes, run: bytes, mark: bytes, data: bytes) -> bytes:
    body = b"".join((kind, run, mark, data))
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


@contextlib.contextmanager
def left_behind(place: str) -> Iterator[dict[str, Leftovers]]:
    """What processes that are gone have left, by run; it is removed when the block ends well."""
    with contextlib.ExitStack() as stack:
        runs, found = defaultdict[str, Leftovers](Leftovers), list[Path]()
        for path in _paths(Path(place)):
            try:
                file = stack.enter_context(path.open("rb"))
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its process lives, or another one was faster
                continue
            unpack(file.read(), runs)
            found.append(path)
        for left in runs.values():
            left.groups.sort()
        yield runs
        for path in found:
            path.unlink(missing_ok=True)


def count_tails(place: str) -> int:
    """How many there are; after ``left_behind`` those of living processes alone."""
    return len(_paths(Path(place)))


def _paths(place: Path) -> list[Path]:
    prefix = _NAME.format(place.name, "")
    try:
        return [path for path in place.parent.iterdir() if path.name.startswith(prefix) and path.suffix != ".new"]
    except OSError:
        return []


def unpack(data: bytes, runs: dict[str, Leftovers]) -> None:
    """Adds what a tail holds, up to where it is torn."""
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
