"""Writes journals in two steps. A flush appends a run's pending events to the ``Tail``, which survives the process.

Once a second, and soon after the end of a run, a checkpoint brings the tail of all runs of the process into the database.
It is one transaction, on one thread.
It knows how rows are written, not what they contain.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import field

from rlm.core.errors import StoreError
from rlm.core.events import AnyEvent
from rlm.core.values import frozen, slotted
from rlm.log import get_logger
from rlm.store.codec import Encoder
from rlm.store.migrations import StoreBusyError, transaction, translated
from rlm.store.rows import RunRow, add_events, begin_run, end_run, number_of
from rlm.store.tail import Tail, mark_of

logger = get_logger(__name__)

GATHER_S = 1.0  # between two checkpoints: other processes see events that much later
ENDED_S = 0.05  # after the end of a run; runs that end together share a checkpoint
Redact = Callable[[bytes], bytes]


@slotted
class OpenRun:
    """A run that this process writes.

    Attributes:
        row: the run's own row, until the database has it.
        pending: events that are not encoded yet. Any thread can append, without a lock.
        lines, texts: in the tail, and not yet in the database.
        seq: the number of the first of these lines.
        over: the run has ended.
    """

    id: str
    encoder: Encoder
    redact: Redact
    row: RunRow | None = None
    seq: int = 0
    pending: deque[AnyEvent] = field(default_factory=deque)
    lines: list[bytes] = field(default_factory=list)
    texts: dict[bytes, bytes] = field(default_factory=dict)
    next_seq: int = field(init=False)
    name: bytes = field(init=False)
    failure: StoreError | None = None
    over: bool = False

    def __post_init__(self) -> None:
        self.next_seq = self.seq
        self.name = mark_of(self.id)


@frozen
class Rows:
    """The part of one run in a checkpoint."""

    run: OpenRun
    seq: int
    lines: list[bytes]
    texts: dict[bytes, bytes]
    over: bool

    @property
    def are_new(self) -> bool:
        return bool(self.lines or self.run.row or self.over)


class Writer:
    """The writer of one store. ``lock`` guards the connection that the store reads from; it is taken before the writer's own.

    ``on_new_runs`` is called on the writer's thread after a checkpoint with new runs.
    """

    def __init__(
        self, connection: sqlite3.Connection, place: str, lock: threading.RLock, on_new_runs: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._place = place
        self._lock = lock
        self._on_new_runs = on_new_runs
        self._mutex = threading.Lock()  # guards everything below, and the parts of runs that are not in the database
        self._runs: list[OpenRun] = []  # runs that can have something to write
        self._tail: Tail | None = None
        self._other: Tail | None = None  # the tail in the current checkpoint
        self._writing = threading.Event()  # set while there are runs
        self._ended = threading.Event()  # set when a run ends
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, run: OpenRun) -> None:
        """Raises StoreError."""
        with self._mutex:
            tail = self._open_tail()  # also for a resumed run: it shows other processes that this one writes
            if self._other is None:
                self._other = Tail(self._place)  # now, because a run in progress may find no descriptor for it
            if run.row is not None:
                tail.append_row(run.name, run.row.pack())
            self._runs.append(run)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="rlm-journal", daemon=True)
                self._thread.start()
        self._writing.set()

    def flush(self, run: OpenRun) -> None:
        """Makes everything appended so far survive the end of this process.

        Raises:
            StoreError: this or an earlier write failed.
        """
        with self._mutex:
            if run.pending and run.failure is None:
                self._take(run)
            if run.failure is not None:
                raise StoreError(str(run.failure))

    def end(self, run: OpenRun) -> None:
        """Marks a run as ended; a checkpoint follows soon."""
        run.over = True
        self._ended.set()

    def checkpoint(self) -> None:
        """Writes everything to the database. An error ends its runs at their next flush."""
        with self._lock:
            with self._mutex:
                work = [rows for run in self._runs if (rows := self._take_rows(run)).are_new]
                tail = self._tail
                if tail is not None and not tail.is_empty:
                    self._tail, self._other = self._other, tail
            if work:
                self._write(work)

    def close(self) -> None:
        """Writes the rest and ends the thread. If the database is locked, the next process that opens it reads the tails."""
        self._closing.set()
        self._ended.set()
        self._writing.set()
        if self._thread is not None:
            self._thread.join()
        self.checkpoint()
        with self._mutex:  # a flush after this point raises
            left = any(run.lines or run.row for run in self._runs)
            for run in self._runs:
                run.failure = run.failure or StoreError("the store was closed while a run went on")
        for tail in (self._tail, self._other):
            if tail is not None:
                tail.leave() if left else tail.remove()
        if left:
            logger.warning("the store %s is locked: it gets the last events when it is next opened", self._place)

    def abandon(self) -> None:
        """Closes the parent's tails, in a forked child: as long as one is open, its writer counts as alive."""
        for tail in (self._tail, self._other):
            if tail is not None:
                tail.leave()

    @property
    def own_tails(self) -> int:
        return sum(tail is not None for tail in (self._tail, self._other))

    def _open_tail(self) -> Tail:
        if self._tail is None:
            self._tail = Tail(self._place)
        return self._tail

    def _work(self) -> None:
        while not self._closing.is_set():
            self._writing.wait()
            if self._ended.wait(GATHER_S):
                self._ended.clear()
                self._closing.wait(ENDED_S)
            self.checkpoint()
            with self._mutex:
                if not self._runs:
                    self._writing.clear()

    def _take_rows(self, run: OpenRun) -> Rows:
        over = run.over  # read first: all events before the end are then among the lines
        if run.pending and run.failure is None:
            self._take(run)  # into the tail, too: a flush that comes now finds nothing pending, and need not wait
        rows = Rows(run, run.seq, run.lines, run.texts, over)
        run.seq, run.lines, run.texts = run.next_seq, [], {}
        return rows

    def _take(self, run: OpenRun) -> None:
        """Encodes the pending events and appends them to the tail. Called with the mutex held."""
        try:
            line, texts = run.redact(run.encoder.encode(run.pending)), run.encoder.take_texts()
            if texts:
                texts = {digest: run.redact(data) for digest, data in texts.items()}
            if line:
                self._open_tail().append_line(run.name, run.next_seq, line, texts)
        except Exception as error:  # noqa: BLE001  it ends the run
            run.failure = _as_store_error(error, f"an event of run {run.id} cannot be written")
            return
        if line:
            run.lines.append(line)
            run.next_seq += 1
            if texts:
                run.texts |= texts

    def _write(self, work: Sequence[Rows]) -> None:
        try:
            with translated(self._place), transaction(self._connection):
                for rows in work:
                    self._write_run(rows)
        except StoreBusyError:
            logger.warning("the store %s is locked by another process: trying again", self._place)
            with self._mutex:
                for rows in work:
                    _give_back(rows)
        except Exception as error:  # noqa: BLE001  it ends the runs
            failure = _as_store_error(error, f"the store {self._place} failed")
            with self._mutex:
                for rows in work:
                    run = rows.run
                    run.failure = run.failure or failure
                    run.seq, run.lines, run.texts = run.next_seq, [], {}  # nothing can follow a gap
                for tail in (self._tail, self._other):
                    if tail is not None:
                        tail.leave()  # as that of an ended process: the next reader takes its lines
                self._tail = self._other = None
                self._forget(work)
        else:
            with self._mutex:
                self._forget(work)
            if self._other is not None and not self._other.is_empty:
                self._other.clear()
            if any(rows.run.row for rows in work):
                for rows in work:
                    rows.run.row = None
                self._on_new_runs()

    def _forget(self, work: Sequence[Rows]) -> None:
        """Drops runs that are over and written. Called with the mutex held."""
        over = {id(rows.run) for rows in work if rows.over}
        self._runs = [run for run in self._runs if id(run) not in over]

    def _write_run(self, rows: Rows) -> None:
        run = rows.run
        if run.row is not None:
            begin_run(self._connection, run.row)
        number = number_of(self._connection, run.id)
        if number is None:  # deleted, while it went on
            return
        if rows.lines:
            add_events(self._connection, number, rows.seq, rows.lines, rows.texts)
        if rows.over:
            end_run(self._connection, number, run.encoder.status if run.failure is None else None)


def _give_back(rows: Rows) -> None:
    run = rows.run
    run.seq, run.lines, run.texts = rows.seq, rows.lines + run.lines, rows.texts | run.texts


def _as_store_error(error: Exception, what: str) -> StoreError:
    if isinstance(error, StoreError):
        return error
    logger.exception(what)
    return StoreError(f"{what}: {error!r}")
