"""The store: runs begun, found, read, taken up again and deleted; and the cache of leaf answers. See ``schema`` for the file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson

from rlm.core.divergence import REDACTED
from rlm.core.errors import IncompleteRecordError, StoreError, UnknownRunError
from rlm.core.events import AnyEvent
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.store.codec import Decoder, DumpValue, Encoder, LoadValue, MissingTextError, ended_with
from rlm.store.migrations import MEMORY, open_database, transaction, translated
from rlm.store.rows import RunRow, add_events, begin_run, describe_context, end_run, next_seq, number_of, select_runs
from rlm.store.runs import KEPT_CONTEXT_BYTES, ContextInfo, RunInfo, is_alive, is_of_this_machine, this_process
from rlm.store.tail import Leftovers, count_tails, left_behind
from rlm.store.writer import OpenRun, Writer

MAX_STORE_BYTES = 4 << 30  # beyond it, beginning a run deletes the oldest finished ones
MIN_SECRET_CHARS = 8  # shorter ones would be found in ordinary text
QUESTION_CHARS = 500
NO_TEXTS = "run {} was recorded without its texts (--no-store-texts), so it cannot be executed again"


class SqliteStore:
    """One store of one process; safe with others in other processes, and from any thread.

    Args:
        place: a path, or "memory".
        dump, load: plain data as bytes and back, with its types.
        max_bytes: the size beyond which old runs are deleted when one begins.
    """

    def __init__(
        self,
        place: str | Path,
        dump: DumpValue,
        load: LoadValue,
        *,
        max_bytes: int = MAX_STORE_BYTES,
    ) -> None:
        self.place = str(place)
        self._dump = dump
        self._load = load
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._connection = open_database(place)
        self._writer = Writer(self._connection, self.place, self._lock, self._keep_size)
        self._open: set[RunId] = set()

    def begin(
        self,
        run: RunId,
        question: str,
        options: Mapping[str, JsonValue],
        context: ContextInfo,
        *,
        keep_texts: bool = True,
        secrets: Sequence[str] = (),
    ) -> RunJournal:
        """A journal for a new run.

        Raises:
            StoreError: nothing can be kept.
        """
        redact = redactor(secrets)
        if not keep_texts:  # nobody can take it up: what only that needs is left out
            context = replace(context, path=None, sources=(), folder="")
            options = {name: value for name, value in options.items() if name != "setup_code"}
        shown = redact(question[:QUESTION_CHARS].encode("utf-8", "replace")).decode() if keep_texts else ""
        # What is not whole is no input to go on with.
        hides = context.data is not None and redact(context.data) != context.data
        row = RunRow(
            id=run,
            started=time.time(),
            question=shown,
            options=redact(orjson.dumps(dict(options))).decode(),
            context=describe_context(context),
            context_data=None if hides or not keep_texts else context.data,
            texts_kept=keep_texts,
            owner=this_process(),
        )
        opened = OpenRun(run, Encoder(self._dump, keep_texts=keep_texts), redact, row)
        return self._journal(opened)

    def resume(
        self,
        run: RunId,
        options: Mapping[str, JsonValue] | None = None,
        *,
        seen: int | None = None,
        secrets: Sequence[str] = (),
    ) -> RunJournal:
        """The journal of a run that no living process writes.

        Args:
            run: which one.
            options: in place of those of the same names that it had.
            seen: what ``lines_of`` said before its events were read: nothing may have come since.
            secrets: what must never be written.

        Raises:
            UnknownRunError: there is none.
            StoreError: another process writes it, or has done so since.
        """
        self._catch_up()
        with self._changing() as connection:
            query = "SELECT number, owner, status, texts_kept, options FROM runs WHERE id=?"
            row = connection.execute(query, [run]).fetchone()
            if row is None:
                raise UnknownRunError(self._no_run(run))
            number, owner, status, keep_texts, known = row
            mine = owner == this_process()
            if run in self._open or (status is None and owner and not mine and self._lives(owner)):
                raise StoreError(
                    f"run {run} is being executed by process {str(owner).split(':')[1]}: stop that one first"
                )
            seq = next_seq(connection, number)
            if seen is not None and seq != seen:
                raise StoreError(f"run {run} was taken up by somebody else meanwhile: see rlm show {run}")
            now = orjson.dumps({**orjson.loads(known), **(options or {})}).decode()
            connection.execute(
                "UPDATE runs SET owner=?, status=NULL, touched=?, options=? WHERE number=?",
                [this_process(), time.time(), now, number],
            )
        encoder = Encoder(self._dump, keep_texts=bool(keep_texts))
        return self._journal(OpenRun(run, encoder, redactor(secrets), seq=seq))

    def _journal(self, opened: OpenRun) -> RunJournal:
        self._writer.begin(opened)
        self._open.add(RunId(opened.id))
        return RunJournal(self, opened, self._writer)

    def finish(self, opened: OpenRun) -> None:
        """No more will come of a run; one that could not be kept whole stays open for ``resume``."""
        self._open.discard(RunId(opened.id))
        self._writer.end(opened)

    def note_context(self, run: RunId, context: ContextInfo) -> None:
        """What became known of a run's context after it had begun."""
        self._writer.checkpoint()
        with self._changing() as connection:
            connection.execute("UPDATE runs SET context=? WHERE id=?", [describe_context(context), run])

    def runs(self) -> list[RunInfo]:
        """All runs, the newest first."""
        self._catch_up()
        with self._reading() as connection:
            return self._known(select_runs(connection, "ORDER BY number DESC"))

    def find(self, run: str) -> RunInfo:
        """The run of this id, or of the only id that begins so; "last" is the newest.

        Raises:
            UnknownRunError: there is none, or there are several.
        """
        self._catch_up()
        with self._reading() as connection:
            if run == "last":
                found = select_runs(connection, "ORDER BY number DESC LIMIT 1")
            else:
                where = "WHERE id=? OR substr(id, 1, ?)=? ORDER BY id=? DESC LIMIT 3"
                found = select_runs(connection, where, [run, len(run), run, run])
        if not (found and run):
            raise UnknownRunError(self._no_run(run))
        if len(found) > 1 and found[0].id != run:
            raise UnknownRunError(f"several runs begin with {run}: give more of the id")
        return self._known(found)[0]

    def lines_of(self, run: RunId) -> int:
        """How many lines a run's events have: it grows with whatever is written of it."""
        self._catch_up()
        with self._reading() as connection:
            number = number_of(connection, run)
            return 0 if number is None else next_seq(connection, number)

    def events(self, run: RunId, *, lenient: bool = False) -> list[AnyEvent]:
        """The events of a run, in order. ``lenient`` shows texts that were not kept as such.

        Raises:
            UnknownRunError: there is none.
            IncompleteRecordError: its texts were not kept.
        """
        self._catch_up()
        with self._reading() as connection:
            number = number_of(connection, run)
            if number is None:
                raise UnknownRunError(self._no_run(run))
            rows = connection.execute("SELECT data FROM events WHERE run=? ORDER BY seq", [number]).fetchall()
            texts = dict(connection.execute("SELECT hash, data FROM texts WHERE run=?", [number]))
        decoder = Decoder(run, texts.get, self._load, lenient=lenient)
        try:
            return [event for row in rows for line in row[0].split(b"\n") for event in decoder.decode(line)]
        except MissingTextError:
            raise IncompleteRecordError(NO_TEXTS.format(run)) from None

    def context(self, info: RunInfo) -> object:
        """The context of a run.

        Raises:
            IncompleteRecordError: it was too large to keep, or no texts were to be kept.
        """
        context = info.context
        if context.data is None:
            if not info.texts_kept:
                raise IncompleteRecordError(NO_TEXTS.format(info.id))
            why = "holds a secret and " if context.size <= KEPT_CONTEXT_BYTES and context.kind else ""
            source = f" It was read from {context.path}." if context.path else ""
            raise IncompleteRecordError(
                f"the context of run {info.id} ({context.size:,} bytes) {why}was not kept: give it again.{source}"
            )
        return self._load(context.kind, context.data)

    def delete(self, runs: Sequence[RunId]) -> None:
        """Deletes runs and gives their room back."""
        with self._changing() as connection:
            connection.executemany("DELETE FROM runs WHERE id=?", [[run] for run in runs])
        with self._reading() as connection:
            connection.executescript("PRAGMA incremental_vacuum")  # executed as a query it frees one page alone
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def size(self) -> int:
        """Bytes in use."""
        with self._reading() as connection:
            pages, free, page = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
        return int((pages - free) * page)

    def cached_answer(self, key: bytes) -> str | None:
        with self._reading() as connection:
            found = connection.execute("SELECT reply FROM answers WHERE key=?", [key]).fetchone()
        return found[0] if found else None

    def cache_answer(self, key: bytes, reply: str) -> None:
        with self._changing() as connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?)", [key, time.time(), reply])

    def abandon(self) -> None:
        """In a forked child: it is its parent's store."""
        self._writer.abandon()

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
        with self._lock:
            self._connection.close()

    def _catch_up(self) -> None:
        """What this process has kept and not yet written comes into the database, and what dead ones have left behind."""
        if self.place == MEMORY:
            self._writer.checkpoint()
            return
        with self._lock:
            self._writer.checkpoint()
            with left_behind(self.place) as runs:
                if runs:
                    with translated(self.place), transaction(self._connection):
                        for run, left in runs.items():
                            self._take_in(run, left)

    def _take_in(self, run: str, left: Leftovers) -> None:
        """What is there already, what does not follow what is there, and what is of a deleted run, is left out."""
        connection = self._connection
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
        if self.place == MEMORY or sum(_file_size(self.place + end) for end in ("", "-wal")) <= self._max_bytes:
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
        """Whether a run's process goes on. In another container, or on a host that was renamed, its tail alone tells."""
        if is_of_this_machine(owner):
            return is_alive(owner)
        return self.place != MEMORY and count_tails(self.place) > self._writer.own_tails

    def _known(self, runs: Sequence[RunInfo]) -> list[RunInfo]:
        """The same, without owners that are gone and that nobody here can look for."""
        return [
            info
            if info.owner is None or is_of_this_machine(info.owner) or self._lives(info.owner)
            else replace(info, owner=None)
            for info in runs
        ]

    def _no_run(self, run: str) -> str:
        if run == "last":
            return f"the store {self.place} has no runs yet"
        return f"the store {self.place} has no run {run}. See: rlm runs"

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self.place), transaction(self._connection):
            yield self._connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, translated(self.place):
            yield self._connection


class RunJournal:
    """Implements Journal for one run."""

    def __init__(self, store: SqliteStore, opened: OpenRun, writer: Writer) -> None:
        self._store = store
        self._opened = opened
        # Made a line of later, with others: one after the other they cost a third of what each would cost now.
        self.append: Callable[[AnyEvent], None] = opened.pending.append
        self.flush: Callable[[], None] = partial(writer.flush, opened)

    def end(self) -> None:
        """Notes how the run ended; what went wrong before was told already."""
        self._store.finish(self._opened)


def _file_size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def redactor(secrets: Sequence[str]) -> Callable[[bytes], bytes]:
    """Takes secrets out of what is written. Requests hold none; errors of providers may quote one."""
    found = sorted({secret.encode() for secret in secrets if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True)

    def redact(data: bytes) -> bytes:
        for secret in found:
            if secret in data:
                data = data.replace(secret, REDACTED.encode())
        return data

    return redact
