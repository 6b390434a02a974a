"""Usage of shared budgets in a SQLite file, for several processes. Every change is one transaction.

A process that dies with calls in flight has perhaps paid for them: the next process that needs room counts its reservations as
spent. Time is the time of day, so that a window goes on over restarts.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlm.core.amounts import NOTHING, Amounts, LimitUse
from rlm.core.errors import StoreError
from rlm.core.pool import BudgetPool
from rlm.store.processes import is_alive, this_process

BUSY_S = 5.0  # other processes hold the file for fractions of a millisecond
SCHEMA = """
CREATE TABLE IF NOT EXISTS budgets (
    name TEXT PRIMARY KEY, began REAL NOT NULL, calls INTEGER NOT NULL, tokens INTEGER NOT NULL, nanos INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shares (
    name TEXT, owner TEXT, held_calls INTEGER, held_tokens INTEGER, held_nanos INTEGER,
    kept_calls INTEGER, kept_tokens INTEGER, kept_nanos INTEGER, PRIMARY KEY (name, owner)
) WITHOUT ROWID;
"""


class FilePool:
    """The usage of one shared budget in a file. See ``rlm.core.pool.Pool``.

    Raises:
        StoreError: the file cannot be opened, read or written.
    """

    polls = True

    def __init__(self, spec: BudgetPool, now: Callable[[], float] = time.time) -> None:
        self.spec = spec
        self._now = now
        self._lock = threading.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        with self._reading():
            pass

    def lacking(self, amounts: Amounts, *, ignore_held: bool = False) -> str | None:
        with self._reading() as connection:
            spent, held, kept = self._usage(connection)
        return self.spec.lacking(spent + kept + amounts if ignore_held else spent + kept + held + amounts)

    def take(self, held: Amounts, kept: Amounts) -> bool:
        with self._changing() as connection:
            if not self._fits(connection, held + kept):
                self._reclaim(connection)
                if not self._fits(connection, held + kept):
                    return False
            self._add_share(connection, held, kept)
        return True

    def settle(self, held: Amounts, cost: Amounts) -> None:
        with self._changing() as connection:
            self._add_share(connection, NOTHING - held, NOTHING)
            self._spend(connection, cost)
        self._wake()

    def keep(self, change: Amounts) -> None:
        with self._changing() as connection:
            self._add_share(connection, NOTHING, change)
        self._wake()

    def uses(self) -> dict[str, LimitUse]:
        with self._reading() as connection:
            spent, held, kept = self._usage(connection)
        return self.spec.uses(spent, spent + held + kept)

    def listen(self, freed: Callable[[], None]) -> None:
        if freed not in self._listeners:
            self._listeners.append(freed)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    # Amounts in the file.

    def _usage(self, connection: sqlite3.Connection) -> tuple[Amounts, Amounts, Amounts]:
        """The amounts spent in this window, held for calls in flight, and kept for last turns."""
        name = [self.spec.name]
        row = connection.execute("SELECT began, calls, tokens, nanos FROM budgets WHERE name=?", name).fetchone()
        spent = NOTHING if row is None or self._is_over(row[0]) else Amounts(*row[1:])
        shares = connection.execute(
            "SELECT total(held_calls), total(held_tokens), total(held_nanos), total(kept_calls), total(kept_tokens),"
            " total(kept_nanos) FROM shares WHERE name=?",
            name,
        ).fetchone()
        counts = [int(count) for count in shares]
        return spent, Amounts(*counts[:3]), Amounts(*counts[3:])

    def _fits(self, connection: sqlite3.Connection, amounts: Amounts) -> bool:
        spent, held, kept = self._usage(connection)
        return self.spec.lacking(spent + held + kept + amounts) is None

    def _is_over(self, began: float) -> bool:
        return self.spec.per_s is not None and self._now() - began >= self.spec.per_s

    def _spend(self, connection: sqlite3.Connection, cost: Amounts) -> None:
        name = self.spec.name
        row = connection.execute("SELECT began FROM budgets WHERE name=?", [name]).fetchone()
        if row is None or self._is_over(row[0]):
            connection.execute(
                "INSERT OR REPLACE INTO budgets VALUES (?,?,?,?,?)",
                [name, self._now(), cost.calls, cost.tokens, cost.nanos],
            )
        else:
            connection.execute(
                "UPDATE budgets SET calls=calls+?, tokens=tokens+?, nanos=nanos+? WHERE name=?",
                [cost.calls, cost.tokens, cost.nanos, name],
            )

    def _add_share(self, connection: sqlite3.Connection, held: Amounts, kept: Amounts) -> None:
        changes = [held.calls, held.tokens, held.nanos, kept.calls, kept.tokens, kept.nanos]
        connection.execute(
            "INSERT INTO shares VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET held_calls=held_calls+excluded.held_calls,"
            " held_tokens=held_tokens+excluded.held_tokens, held_nanos=held_nanos+excluded.held_nanos,"
            " kept_calls=kept_calls+excluded.kept_calls, kept_tokens=kept_tokens+excluded.kept_tokens,"
            " kept_nanos=kept_nanos+excluded.kept_nanos",
            [self.spec.name, this_process(), *changes],
        )

    def _reclaim(self, connection: sqlite3.Connection) -> None:
        """Counts the reservations of dead processes as spent, and frees what they kept."""
        rows = connection.execute(
            "SELECT owner, held_calls, held_tokens, held_nanos FROM shares WHERE name=?", [self.spec.name]
        ).fetchall()
        for owner, *held in rows:
            if not is_alive(owner):
                self._spend(connection, Amounts(*held))
                connection.execute("DELETE FROM shares WHERE name=? AND owner=?", [self.spec.name, owner])

    # The file.

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connect()
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"the {self.spec.title} in {self.spec.path} cannot be used: {error}") from error

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        """The connection of this process. A forked child opens its own, and leaves that of its parent alone."""
        if self._connection is None or self._pid != os.getpid():
            place = Path(self.spec.path or "")
            place.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(place, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.executescript(SCHEMA)
            self._connection, self._pid = connection, os.getpid()
        return self._connection

    def _wake(self) -> None:
        listeners, self._listeners = self._listeners, []
        for freed in listeners:
            freed()
