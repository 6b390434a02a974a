"""Executes tools away from the engine's event loop: functions in daemon threads, coroutines on a loop of their own.

A tool that blocks or hangs then holds up neither model calls nor the end of the process.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from rlm.core.tools import ToolFailure

IDLE_S = 10.0  # after which a thread without work ends


class Threads:
    """Daemon threads that are used again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = 0
        self._pid = os.getpid()

    def submit(self, function: Callable[[], Any]) -> Future[Any]:
        """Runs a function in a thread of its own."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  raised by the reader of the result
                future.set_exception(error)

        with self._lock:
            if self._pid != os.getpid():  # the threads stayed with the parent of a fork
                self._pid, self._idle, self._work = os.getpid(), 0, queue.SimpleQueue()
            self._work.put(work)
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._run, args=(self._work,), name="rlm-tool", daemon=True).start()
        return future

    def _run(self, queued: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            try:
                work = queued.get(timeout=IDLE_S)
            except queue.Empty:
                with self._lock:
                    if not queued.empty():
                        continue
                    self._idle -= self._idle > 0
                return
            work()
            with self._lock:
                self._idle += 1


class ToolLoop:
    """An event loop in a daemon thread, started on first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Starts a coroutine. Cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self.running())

    def running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="rlm-tools", daemon=True).start()
            return self._loop


THREADS = Threads()
LOOP = ToolLoop()


class Slots:
    """Executions of one tool at once, over all runs, threads and event loops of the process.

    A thread that still runs after its time limit keeps its slot. If such threads hold all slots, further calls fail.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._used = self._stuck = 0
        self._waiting: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    async def acquire(self) -> None:
        """Waits for a slot.

        Raises:
            ToolFailure: executions that do not end hold all slots.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._stuck >= self._limit:
                raise self._all_stuck()
            if self._used < self._limit:
                self._used += 1
                return
            granted = loop.create_future()
            self._waiting.append((loop, granted))
        try:
            await granted
        except asyncio.CancelledError:
            with self._lock:
                try:
                    self._waiting.remove((loop, granted))
                    raise
                except ValueError:  # it was granted in the same moment
                    pass
            self.release()
            raise

    def release(self) -> None:
        """Returns a slot."""
        with self._lock:
            if self._waiting:
                _resolve(*self._waiting.popleft(), None)
            else:
                self._used -= 1

    def note_stuck(self) -> None:
        """Notes that an execution continues after its time limit. ``release`` follows if it ends."""
        with self._lock:
            self._stuck += 1
            if self._stuck >= self._limit:
                while self._waiting:
                    _resolve(*self._waiting.popleft(), self._all_stuck())

    def note_ended(self) -> None:
        """Notes that such an execution has ended."""
        with self._lock:
            self._stuck -= 1

    def _all_stuck(self) -> ToolFailure:
        return ToolFailure(
            "Unavailable", f"all {self._limit} executions at once of this tool ran out of time, and have not ended"
        )


def _resolve(loop: asyncio.AbstractEventLoop, future: asyncio.Future[None], error: Exception | None) -> None:
    def resolve() -> None:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    loop.call_soon_threadsafe(resolve)
