"""The tables, their versions, and how a database is opened. Knows nothing of events.

PRAGMA choices, and why:
- ``journal_mode=WAL``: readers (``rlm show``, a second run) never wait for a writer, and a commit is one append.
- ``synchronous=NORMAL``: a commit is in the kernel's hands when it returns, so ``kill -9`` loses nothing. It is not forced to
  the disk. A power cut can lose the last commits, never the order or the consistency. ``FULL`` would cost an fsync (1 to
  10 ms) for each group of answers, and protect only seconds of work.
- ``busy_timeout``: several processes share one store. A commit takes about a millisecond, so seconds mean that a process hangs.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from rlm.core.errors import StoreError

BUSY_TIMEOUT_S = 10.0

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        started REAL NOT NULL,         -- seconds since 1970
        touched REAL NOT NULL,
        status TEXT,                   -- NULL while it runs, or when its process was killed
        question TEXT NOT NULL,        -- its first line
        options TEXT NOT NULL,         -- JSON: what is needed to run it again
        context TEXT NOT NULL,         -- JSON: kind, bytes, hash, and the path it came from
        context_data BLOB,             -- NULL where it was too large to keep
        texts_kept INTEGER NOT NULL,
        owner TEXT                     -- the process that writes it: host and process id
    ) STRICT;
    CREATE TABLE events (
        run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
        seq INTEGER NOT NULL,          -- of the first line in this row; the others follow
        data BLOB NOT NULL,            -- lines of JSON: kind and fields of each event; long texts as {"#": hash}
        PRIMARY KEY (run, seq)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE texts (               -- each once for a run, so that a run can be deleted by itself
        run INTEGER NOT NULL REFERENCES runs(number) ON DELETE CASCADE,
        hash BLOB NOT NULL,
        data BLOB NOT NULL,
        UNIQUE (run, hash)
    ) STRICT;
    CREATE TABLE answers (             -- the cache of leaf answers
        key BLOB PRIMARY KEY,
        made REAL NOT NULL,
        reply TEXT NOT NULL
    ) STRICT;
    """,
    "-- lines may hold several events, and leave out what an event before them said: older versions could not read them",
    "-- lines may start with the version of their encoder, and hold rows that refer to shared fields",
)
"""Entry n migrates version n to n + 1. Released entries never change: add one."""

VERSION = len(MIGRATIONS)


_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class StoreBusyError(StoreError):
    """Another process has locked the store; a later attempt can succeed."""


class NoStoreError(StoreError):
    """There is no file of this name."""

    def __init__(self, place: str | Path) -> None:
        super().__init__(f"there is no store {place}. Name another with --store or store=.")


def open_database(place: str | Path, *, create: bool = True) -> sqlite3.Connection:
    """A connection to a store of this version, migrated if needed. Used by one thread at a time.

    Args:
        place: the file.
        create: create it, and its folder, if it does not exist.

    Raises:
        StoreError: the file cannot be used; the message names the remedy.
    """
    with translated(place):
        path = Path(place)
        if not create and not path.exists():
            raise NoStoreError(place)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # questions are private
        address = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(
            address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
        )
        try:
            _prepare(connection, place)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: sqlite3.Connection, place: str | Path) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute(
        "PRAGMA auto_vacuum=INCREMENTAL"
    )  # counts for a new file only: deleted runs give their room back
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    if check_version(connection, place) < VERSION:
        _migrate(connection)


def check_version(connection: sqlite3.Connection, place: str | Path) -> int:
    """The version of a store. Raises StoreError if this program does not know it."""
    version = _version(connection)
    if version > VERSION:
        raise StoreError(
            f"the store {place} was written by a newer version of this program (schema {version}, this one knows {VERSION}). "
            "Upgrade rlm-arbor, or name another store."
        )
    return version


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrate(connection: sqlite3.Connection) -> None:
    """Migrates in one transaction: of two processes that open a new store one creates it, and a killed one changes nothing."""
    with transaction(connection):
        for step in MIGRATIONS[_version(connection) :]:
            for statement in step.split(";\n"):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commits the block, or rolls it back."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(place: str | Path) -> Iterator[None]:
    """Translates errors of SQLite and of the system into StoreError with a remedy."""
    try:
        yield
    except sqlite3.Error as error:
        kind = StoreBusyError if _primary_code(error) in _BUSY else StoreError
        raise kind(f"the store {place} {_explain(error)}") from error
    except OSError as error:
        raise StoreError(
            f"the store {place} cannot be opened: {error.strerror}. Name another with --store or store=."
        ) from error


def _primary_code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if code is not None else None


def _explain(error: sqlite3.Error) -> str:
    match _primary_code(error):
        case sqlite3.SQLITE_FULL:
            return (
                "cannot grow: the disk is full. What was written before is whole; make room, then `rlm resume` the run."
            )
        case sqlite3.SQLITE_READONLY:
            return "cannot be written: it is read-only. Name another with --store or store=."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return (
                f"has been locked by another process for {BUSY_TIMEOUT_S:g} s. End that process, or name another store."
            )
        case sqlite3.SQLITE_CANTOPEN:
            return "cannot be opened: no such file, or no right to read it."
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return f"is not a store, or is damaged ({error}). Move it away, or name another."
        case sqlite3.SQLITE_IOERR:
            return (
                f"cannot be read or written ({error}): the disk failed, or is full. What was written before is whole."
            )
        case _:
            return f"failed: {error}"
