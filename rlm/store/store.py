"""The store in a SQLite file, with its runs and cached answers. See ``migrations`` for the tables."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import orjson

from rlm.core.errors import StoreError
from rlm.core.events import AnyEvent
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.redaction import redactor
from rlm.core.runs import ContextInfo, RunInfo
from rlm.store.codec import Encoder, ended_with
from rlm.store.forms import DumpValue, LoadValue
from rlm.store.migrations import open_database, transaction, translated
from rlm.store.processes import is_alive, is_of_this_machine, this_process
from rlm.store.read_only import open_to_read
from rlm.store.reading import (
    change_options,
    choose_run,
    decode_events,
    load_context,
    no_run,
    read_run_id,
    resumed_elsewhere,
)
from rlm.store.rows import RunRow, add_events, begin_run, describe_context, end_run, next_seq, number_of, select_runs
from rlm.store.tail import Leftovers, count_tails, left_behind
from rlm.store.writer import OpenRun, Writer

MAX_STORE_BYTES = 4 << 30  # beyond it, a new run deletes the oldest finished ones


class SqliteStore:
    """Implements ``rlm.ports.Store``. Other processes can use the same file at the same time.

    Args:
        place: the file.
        dump, load: plain data as bytes and back, with its types.
        max_bytes: the size beyond which a new run deletes old ones.
        create: create the file if it does not exist.

    Reading never needs writing: if the file, its folder or its disk cannot be written, runs are read from a read-only view.

    Raises:
        NoStoreError: it does not exist, with ``create`` unset.
        StoreError: it cannot be read.
    """

    def __init__(
        self,
        place: str | Path,
        dump: DumpValue,
        load: LoadValue,
        *,
        max_bytes: int = MAX_STORE_BYTES,
        create: bool = True,
    ) -> None:
        self.place = str(place)
        self._dump = dump
        self._load = load
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._open: set[RunId] = set()
        self._view: sqlite3.Connection | None = None  # read-only, while the database cannot be written
        self._can_write = True
        try:
            self._connection = open_database(place, create=create)
        except StoreError:
            if not Path(place).is_file():
                raise
            self._connection = self._view = open_to_read(place)
            self._can_write = False
        self._writer = Writer(self._connection, self.place, self._lock, self._keep_size)

    def begin_run(
        self,
        run: RunId,
        question: str,
        options: Mapping[str, JsonValue],
        context: ContextInfo,
        *,
        keep_texts: bool = True,
        secrets: Sequence[str] = (),
    ) -> RunJournal:
        redact = redactor(secrets)
        row = RunRow.of(run, question, options, context, redact, keep_texts=keep_texts)
        opened = OpenRun(run, Encoder(self._dump, keep_texts=keep_texts), redact, row)
        return self._journal(opened)

    def resume_run(
        self,
        run: RunId,
        options: Mapping[str, JsonValue] | None = None,
        *,
        revision: int | None = None,
        secrets: Sequence[str] = (),
    ) -> RunJournal:
        self._catch_up()
        with self._changing() as connection:
            query = "SELECT number, owner, status, texts_kept, options FROM runs WHERE id=?"
            row = connection.execute(query, [run]).fetchone()
            if row is None:
                raise no_run(self.place, run)
            number, owner, status, keep_texts, recorded = row
            is_ours = owner == this_process()
            if run in self._open or (status is None and owner and not is_ours and self._lives(owner)):
                raise StoreError(
                    f"run {run} is being executed by process {str(owner).split(':')[1]}: stop that one first"
                )
            seq = next_seq(connection, number)
            if revision is not None and seq != revision:
                raise resumed_elsewhere(run)
            redact = redactor(secrets)
            now = change_options(orjson.loads(recorded), options, redact).decode()
            connection.execute(
                "UPDATE runs SET owner=?, status=NULL, touched=?, options=? WHERE number=?",
                [this_process(), time.time(), now, number],
            )
        encoder = Encoder(self._dump, keep_texts=bool(keep_texts))
        return self._journal(OpenRun(run, encoder, redact, seq=seq))

    def _journal(self, opened: OpenRun) -> RunJournal:
        self._need_writing()
        self._writer.begin(opened)
        self._open.add(RunId(opened.id))
        return RunJournal(self, opened, self._writer)

    def finish(self, opened: OpenRun) -> None:
        """Closes a run's journal. A run that could not be written whole can be resumed."""
        self._open.discard(RunId(opened.id))
        self._writer.end(opened)

    def note_context(self, run: RunId, context: ContextInfo) -> None:
        self._writer.checkpoint()
        with self._changing() as connection:
            connection.execute("UPDATE runs SET context=? WHERE id=?", [describe_context(context), run])

    def runs(self) -> list[RunInfo]:
        self._catch_up()
        with self._reading() as connection:
            return select_runs(connection, "ORDER BY number DESC", [], self._lives)

    def find(self, run: str) -> RunInfo:
        run = read_run_id(run)
        self._catch_up()
        with self._reading() as connection:
            if run == "last":
                infos = select_runs(connection, "ORDER BY number DESC LIMIT 1", [], self._lives)
            else:
                where = "WHERE id=? OR substr(id, 1, ?)=? ORDER BY id=? DESC LIMIT 3"
                infos = select_runs(connection, where, [run, len(run), run, run], self._lives)
        return choose_run(self.place, run, infos)

    def revision(self, run: RunId) -> int:
        self._catch_up()
        with self._reading() as connection:
            number = number_of(connection, run)
            return 0 if number is None else next_seq(connection, number)

    def events(self, run: RunId, *, lenient: bool = False) -> list[AnyEvent]:
        self._catch_up()
        with self._reading() as connection:
            number = number_of(connection, run)
            if number is None:
                raise no_run(self.place, run)
            rows = connection.execute("SELECT data FROM events WHERE run=? ORDER BY seq", [number]).fetchall()
            texts = dict(connection.execute("SELECT hash, data FROM texts WHERE run=?", [number]))
        lines = [line for row in rows for line in row[0].split(b"\n")]
        return decode_events(run, lines, texts.get, self._load, lenient=lenient)

    def context(self, info: RunInfo) -> object:
        return load_context(info, self._load)

    def delete(self, runs: Sequence[RunId]) -> None:
        """Deletes runs and returns their space to the file system."""
        self._catch_up()
        with self._changing() as connection:
            connection.executemany("DELETE FROM runs WHERE id=?", [[run] for run in runs])
        with self._reading() as connection:
            connection.executescript("PRAGMA incremental_vacuum")  # executed as a query it frees one page alone
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def size(self) -> int:
        with self._reading() as connection:
            pages, free, page = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * page)

    def cached_answer(self, key: bytes) -> str | None:
        with self._reading() as connection:
            row = connection.execute("SELECT reply FROM answers WHERE key=?", [key]).fetchone()
        return row[0] if row else None

    def cache_answer(self, key: bytes, reply: str) -> None:
        with self._changing() as connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", [key, time.time(), reply])

    def abandon(self) -> None:
        """Leaves the files to the parent, in a forked child."""
        self._writer.abandon()

    def close(self) -> None:
        """Writes what is pending and closes the file."""
        self._writer.close()
        with self._lock:
            self._drop_view()
            self._connection.close()

    def _need_writing(self) -> None:
        """Opens a database that could only be read so far. Raises StoreError."""
        with self._lock:
            if not self._can_write:
                self._connection = open_database(self.place, create=False)
                self._writer = Writer(self._connection, self.place, self._lock, self._keep_size)
                self._can_write = True
                self._drop_view()

    def _catch_up(self) -> None:
        """Brings the tails of this process and of ended ones into the database, or into a read-only view of it."""
        with self._lock:
            if self._can_write:
                self._writer.checkpoint()
                with suppress(StoreError), left_behind(self.place) as runs:
                    if runs:
                        with translated(self.place), transaction(self._connection):
                            self._take_in_all(self._connection, runs)
                    self._drop_view()
                    return
            self._drop_view()
            self._view = open_to_read(self.place)
            if not self._can_write:
                self._connection = self._view
            with left_behind(self.place, delete=False) as runs, translated(self.place):
                self._take_in_all(self._view, runs)

    def _drop_view(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None

    def _take_in_all(self, connection: sqlite3.Connection, runs: Mapping[str, Leftovers]) -> None:
        for run, left in runs.items():
            self._take_in(connection, run, left)

    def _take_in(self, connection: sqlite3.Connection, run: str, left: Leftovers) -> None:
        """Adds the lines that follow those in the database. Lines of deleted runs are dropped."""
        if left.row is not None:
            begin_run(connection, RunRow.unpack(left.row))
        number = number_of(connection, run)
        if number is None:
            return
        first = following = next_seq(connection, number)
        lines = list[bytes]()
        for seq, group in left.groups:
            if seq == following:
                lines += group.split(b"\n")
                following = first + len(lines)
        if lines:
            add_events(connection, number, first, lines, left.texts)
            if (status := ended_with(lines[-1])) is not None:
                end_run(connection, number, status)

    def _keep_size(self) -> None:
        if sum(_file_size(self.place + end) for end in ("", "-wal")) <= self._max_bytes:
            return
        if self.size() <= self._max_bytes:  # the file may have room in it
            return
        _newest, *others = self.runs()
        oldest = [info.id for info in reversed(others) if not info.is_running and info.id not in self._open]
        while oldest and self.size() > self._max_bytes * 0.8:
            few = 1 + len(oldest) // 10
            self.delete(oldest[:few])
            oldest = oldest[few:]

    def _lives(self, owner: str) -> bool:
        """True if a run's process is alive. For one in another container, or before a host was renamed, its tail is the sign."""
        if is_of_this_machine(owner):
            return is_alive(owner)
        return count_tails(self.place) > self._writer.own_tails

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        self._need_writing()
        with self._lock, translated(self.place), transaction(self._connection):
            yield self._connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self.place):
            yield self._view or self._connection


class RunJournal:
    """Implements Journal for one run."""

    def __init__(self, store: SqliteStore, opened: OpenRun, writer: Writer) -> None:
        self._store = store
        self._opened = opened
        # Encoded later, together with others: that takes a third of the time.
        self.append: Callable[[AnyEvent], None] = opened.pending.append
        self.flush: Callable[[], None] = partial(writer.flush, opened)

    def end(self) -> None:
        """Notes how the run ended. Errors were raised by ``flush`` before."""
        self._store.finish(self._opened)


def _file_size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
