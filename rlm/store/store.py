"""The store: runs begun, found, read, taken up again and deleted; and the cache of leaf answers. See ``schema`` for the file."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson

from rlm.core.errors import IncompleteRecordError, StoreError, UnknownRunError
from rlm.core.events import AnyEvent, CallSent, CallStarted, RunFinished
from rlm.core.ids import CallId, RunId
from rlm.core.messages import JsonValue
from rlm.store.codec import Decoder, DumpValue, Encoder, LoadValue, MissingTextError
from rlm.store.runs import ContextInfo, RunInfo, is_alive, this_process
from rlm.store.schema import MEMORY, open_database, transaction, translated
from rlm.store.writer import END_RUN, OpenRun, Writer

MAX_STORE_BYTES = 4 << 30  # beyond it, beginning a run deletes the oldest finished ones
AT_ONCE_S = 0.001
MIN_SECRET_CHARS = 8  # shorter ones would be found in ordinary text
QUESTION_CHARS = 500
NO_TEXTS = "run {} was recorded without its texts (--no-store-texts), so it cannot be executed again"
_RUNS = "SELECT number, id, started, touched, status, question, options, context, texts_kept, owner, context_data FROM runs "


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
        read_only: bool = False,
        max_bytes: int = MAX_STORE_BYTES,
    ) -> None:
        self.place = str(place)
        self._dump = dump
        self._load = load
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._connection = open_database(place, read_only=read_only)
        self._writer = Writer(self._connection, self.place, self._lock)
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
            StoreError: the store cannot be written.
        """
        self._keep_size()
        redact = redactor(secrets)
        row = (
            run,
            time.time(),
            time.time(),
            redact(question[:QUESTION_CHARS].encode("utf-8", "replace")).decode() if keep_texts else "",
            redact(orjson.dumps(dict(options))).decode(),
            _describe_context(context),
            redact(context.data) if keep_texts and context.data is not None else None,
            keep_texts,
            this_process(),
        )
        with self._changing() as connection:
            number = connection.execute(
                "INSERT INTO runs (id, started, touched, question, options, context, context_data, texts_kept, owner) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            ).lastrowid
        assert number is not None
        return self._journal(run, number, 0, keep_texts, redact)

    def resume(self, run: RunId, *, secrets: Sequence[str] = ()) -> RunJournal:
        """The journal of a run that no living process writes.

        Raises:
            UnknownRunError: there is none.
            StoreError: another process writes it.
        """
        with self._changing() as connection:
            row = connection.execute("SELECT number, owner, status, texts_kept FROM runs WHERE id=?", [run]).fetchone()
            if row is None:
                raise UnknownRunError(self._no_run(run))
            number, owner, status, keep_texts = row
            mine = owner == this_process()
            if run in self._open or (status is None and owner and not mine and is_alive(owner)):
                raise StoreError(
                    f"run {run} is being executed by process {str(owner).split(':')[1]}: stop that one first"
                )
            connection.execute(
                "UPDATE runs SET owner=?, status=NULL, touched=? WHERE number=?", [this_process(), time.time(), number]
            )
            query = "SELECT seq, data FROM events WHERE run=? ORDER BY seq DESC LIMIT 1"
            last = connection.execute(query, [number]).fetchone()
        next_seq = 0 if last is None else last[0] + last[1].count(b"\n") + 1
        return self._journal(run, number, next_seq, bool(keep_texts), redactor(secrets))

    def _journal(
        self, run: RunId, number: int, next_seq: int, keep_texts: bool, redact: Callable[[bytes], bytes]
    ) -> RunJournal:
        self._open.add(run)
        encoder = Encoder(self._dump, keep_texts=keep_texts)
        return RunJournal(self, run, OpenRun(number, next_seq, encoder, redact), self._writer)

    def finish(self, run: RunId, opened: OpenRun) -> None:
        """Notes how a run ended, where its last event did not; one that could not be kept whole stays open for ``resume``."""
        self._open.discard(run)
        if opened.noted and opened.failure is None:
            return
        status = opened.status if opened.failure is None else None
        with self._changing() as connection:
            connection.execute(END_RUN, [status, time.time(), opened.number])

    def note_context(self, run: RunId, context: ContextInfo) -> None:
        """What became known of a run's context after it had begun."""
        with self._changing() as connection:
            connection.execute("UPDATE runs SET context=? WHERE id=?", [_describe_context(context), run])

    def runs(self) -> list[RunInfo]:
        """All runs, the newest first."""
        with self._reading() as connection:
            rows = connection.execute(_RUNS + "ORDER BY number DESC").fetchall()
        return [_read_info(row) for row in rows]

    def find(self, run: str) -> RunInfo:
        """The run of this id, or of the only id that begins so; "last" is the newest.

        Raises:
            UnknownRunError: there is none, or there are several.
        """
        with self._reading() as connection:
            if run == "last":
                rows = connection.execute(_RUNS + "ORDER BY number DESC LIMIT 1").fetchall()
            else:
                query = _RUNS + "WHERE id=? OR substr(id, 1, ?)=? ORDER BY id=? DESC LIMIT 3"
                rows = connection.execute(query, [run, len(run), run, run]).fetchall()
        if not rows or (len(rows) > 1 and rows[0][1] != run):
            raise UnknownRunError(
                self._no_run(run) if not rows else f"several runs begin with {run}: give more of the id"
            )
        return _read_info(rows[0])

    def events(self, run: RunId, *, lenient: bool = False) -> list[AnyEvent]:
        """The events of a run, in order. ``lenient`` shows texts that were not kept as such.

        Raises:
            UnknownRunError: there is none.
            IncompleteRecordError: its texts were not kept.
        """
        with self._reading() as connection:
            found = connection.execute("SELECT number FROM runs WHERE id=?", [run]).fetchone()
            if found is None:
                raise UnknownRunError(self._no_run(run))
            rows = connection.execute("SELECT data FROM events WHERE run=? ORDER BY seq", found).fetchall()
            texts = dict(connection.execute("SELECT hash, data FROM texts WHERE run=?", found))
        decoder = Decoder(run, texts.get, self._load, lenient=lenient)
        try:
            decoded = [decoder.decode(line) for row in rows for line in row[0].split(b"\n")]
        except MissingTextError:
            raise IncompleteRecordError(NO_TEXTS.format(run)) from None
        return [event for event in decoded if event is not None]

    def context(self, info: RunInfo) -> object:
        """The context of a run.

        Raises:
            IncompleteRecordError: it was too large to keep, or no texts were to be kept.
        """
        context = info.context
        if context.data is None:
            if not info.texts_kept:
                raise IncompleteRecordError(NO_TEXTS.format(info.id))
            source = f" It was read from {context.path}." if context.path else ""
            raise IncompleteRecordError(
                f"the context of run {info.id} ({context.size:,} bytes) was not kept: give it again.{source}"
            )
        return self._load(context.kind, context.data)

    def delete(self, runs: Sequence[RunId]) -> None:
        """Deletes runs and gives their room back."""
        with self._changing() as connection:
            connection.executemany("DELETE FROM runs WHERE id=?", [[run] for run in runs])
        with self._reading() as connection:
            connection.execute("PRAGMA incremental_vacuum").fetchall()
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

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()
        with self._lock:
            self._connection.close()

    def _keep_size(self) -> None:
        if self.place == MEMORY or self.size() <= self._max_bytes:
            return
        oldest = [info.id for info in reversed(self.runs()) if not info.is_running and info.id not in self._open]
        while oldest and self.size() > self._max_bytes * 0.8:
            self.delete(oldest[:10])
            oldest = oldest[10:]

    def _no_run(self, run: str) -> str:
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
    """Keeps the events of one run. ``close`` when the run is over, however it ended.

    That a call left is kept where it had to wait for it, or left again: else it says nothing that its beginning does not.
    """

    def __init__(self, store: SqliteStore, run: RunId, opened: OpenRun, writer: Writer) -> None:
        self._store = store
        self._run = run
        self._opened = opened
        self._writer = writer
        self._begun: dict[CallId, float] = {}

    def append(self, event: AnyEvent) -> None:
        if isinstance(event, CallStarted):
            self._begun[event.call] = event.at_s
        elif isinstance(event, CallSent):
            if event.at_s - self._begun.pop(event.call, 0.0) < AT_ONCE_S and event.attempt == 1:
                return
        elif isinstance(event, RunFinished):
            self._opened.status = event.status
        self._writer.append(self._opened, event)

    async def written(self) -> None:
        await self._writer.written(self._opened)

    def close(self) -> None:
        """Notes how the run ended; what went wrong before was told already."""
        self._store.finish(self._run, self._opened)


def redactor(secrets: Sequence[str]) -> Callable[[bytes], bytes]:
    """Takes secrets out of what is written. Requests hold none; errors of providers may quote one."""
    found = sorted({secret.encode() for secret in secrets if len(secret) >= MIN_SECRET_CHARS}, key=len, reverse=True)

    def redact(data: bytes) -> bytes:
        for secret in found:
            if secret in data:
                data = data.replace(secret, b"[redacted]")
        return data

    return redact


def _describe_context(context: ContextInfo) -> str:
    fields = {"kind": context.kind, "size": context.size, "digest": context.digest, "path": context.path}
    return orjson.dumps(fields).decode()


def _read_info(row: tuple[object, ...]) -> RunInfo:
    _, run, started, touched, status, question, options, context, texts_kept, owner, data = row
    return RunInfo(
        id=RunId(str(run)),
        started=float(started),  # type: ignore[arg-type]
        touched=float(touched),  # type: ignore[arg-type]
        status=None if status is None else str(status),
        question=str(question),
        options=orjson.loads(str(options)),
        context=ContextInfo(**orjson.loads(str(context)), data=data if isinstance(data, bytes) else None),
        texts_kept=bool(texts_kept),
        owner=None if owner is None else str(owner),
    )
