"""Writes events in groups: what arrives while one transaction is under way goes into the next.

One thread for each store, so that the event loop never waits for a disk; one transaction for all runs of the process. It
knows how rows are written, not what they say.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rlm.core.errors import StoreError
from rlm.core.events import AnyEvent
from rlm.store.codec import Encoder
from rlm.store.schema import transaction, translated

logger = logging.getLogger(__name__)

LAZY_S = 0.05  # how long events that nobody waits for may gather
GATHER_S, GATHER_MANY_S = (
    0.004,
    0.012,
)  # how long answers gather when more come: a commit costs as much as twenty of them
MANY = 32
END_RUN = "UPDATE runs SET status=?, touched=?, owner=NULL WHERE number=?"
Redact = Callable[[bytes], bytes]


@dataclass(slots=True)
class OpenRun:
    """A run that this process writes.

    ``pending`` are events that are not written yet, or their lines; ``status`` is how it ended, written with its last event:
    ``noted`` tells that it was.
    """

    number: int
    next_seq: int
    encoder: Encoder
    redact: Redact
    pending: deque[AnyEvent | bytes] = field(default_factory=deque)
    listed: bool = False  # the writer knows that something is pending
    failure: StoreError | None = None
    status: str | None = None
    noted: bool = False


class Writer:
    """``lock`` guards the connection, for whoever uses it besides."""

    def __init__(self, connection: sqlite3.Connection, place: str, lock: threading.RLock) -> None:
        self._connection = connection
        self._place = place
        self._lock = lock
        self._wake = threading.Condition()
        self._runs: list[OpenRun] = []
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None], OpenRun]] = []
        self._closing = False
        self._busy = False  # the thread is not waiting to be told
        self._thread: threading.Thread | None = None

    def append(self, run: OpenRun, event: AnyEvent) -> None:
        # Short ones are made a line at once: by the thousand, waiting events cost the collector more than their lines cost us.
        run.pending.append(run.encoder.encode_short(event) or event)
        if run.listed:
            return
        with self._wake:
            run.listed = True
            self._runs.append(run)
            if not self._busy:
                self._wake.notify()

    async def written(self, run: OpenRun) -> None:
        """Raises StoreError."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._wake:
            if self._closing:
                raise StoreError("the store was closed while a run went on")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="rlm-journal", daemon=True)
                self._thread.start()
            self._waiting.append((loop, future, run))
            if not self._busy and len(self._waiting) == 1:
                self._wake.notify()
        await future

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        else:
            self._write_group()

    def _work(self) -> None:
        closing, waiters = False, 0
        while not closing:
            if waiters > 1:
                time.sleep(GATHER_S if waiters < MANY else GATHER_MANY_S)
            with self._wake:
                self._busy = False
                while not (self._runs or self._waiting or self._closing):
                    self._wake.wait()
                if not (self._waiting or self._closing):
                    self._wake.wait(LAZY_S)
                closing, waiters = self._closing, len(self._waiting)
                self._busy = True
            self._write_group()

    def _write_group(self) -> None:
        with self._wake:
            waiting, self._waiting = self._waiting, []
            runs, self._runs = self._runs, []
            for run in runs:
                run.listed = False  # before it is emptied: what is appended meanwhile lists it anew
        if runs:
            self._write([(run, _take(run.pending)) for run in runs])
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], StoreError | None]]] = {}
        for loop, future, run in waiting:
            by_loop.setdefault(loop, []).append((future, run.failure))
        for loop, ended in by_loop.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, ended)

    def _write(self, groups: list[tuple[OpenRun, list[AnyEvent | bytes]]]) -> None:
        try:
            with self._lock, translated(self._place), transaction(self._connection):
                for run, events in groups:
                    if run.failure is None:  # after a gap nothing may follow
                        self._write_run(run, events)
        except Exception as error:
            failure = (
                error if isinstance(error, StoreError) else StoreError(f"the store {self._place} failed: {error!r}")
            )
            if not isinstance(error, StoreError):
                logger.exception("the journal failed")
            for run, _ in groups:
                run.failure = run.failure or failure

    def _write_run(self, run: OpenRun, events: list[AnyEvent | bytes]) -> None:
        """A group is one row, a line for each event: a row for each would cost twice as much as making its line."""
        if not events:
            return
        encode = run.encoder.encode
        lines = run.redact(b"\n".join(each if isinstance(each, bytes) else encode(each) for each in events))
        texts = [(run.number, digest, run.redact(data)) for digest, data in run.encoder.take_texts().items()]
        if texts:
            self._connection.executemany("INSERT OR IGNORE INTO texts (run, hash, data) VALUES (?, ?, ?)", texts)
        self._connection.execute(
            "INSERT INTO events (run, seq, data) VALUES (?, ?, ?)", (run.number, run.next_seq, lines)
        )
        run.next_seq += len(events)
        if run.status is not None and not run.noted:
            self._connection.execute(END_RUN, (run.status, time.time(), run.number))
            run.noted = True


def _take(pending: deque[AnyEvent | bytes]) -> list[AnyEvent | bytes]:
    """What is there now, in order; others may append at the same time."""
    return [pending.popleft() for _ in range(len(pending))]


def _resolve(ended: list[tuple[asyncio.Future[None], StoreError | None]]) -> None:
    for future, failure in ended:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(StoreError(str(failure)))
