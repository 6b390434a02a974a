"""The event loop that all runs of a process share, in a thread of its own.

The same engine serves scripts, threads, notebooks and programs with an event loop of their own. Connections and workers stay
on the loop that created them. A forked child starts a new loop, and the old one belongs to the parent.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

from rlm.core.errors import BlockingCallError
from rlm.log import get_logger

T = TypeVar("T")
logger = get_logger(__name__)

SIGNAL_CHECK_S = 0.25
STOP_SECONDS = 5.0  # at the end of the process, for runs to release workers and connections


def wait_for(future: Future[T], timeout_s: float | None = None) -> T:
    """Blocks until a future is done. Ctrl-C interrupts it at any moment.

    A signal that arrives just before the thread blocks does not wake it, so it wakes by itself from time to time.

    Raises:
        TimeoutError: the future is not done within ``timeout_s``.
    """
    ends_at = math.inf if timeout_s is None else time.monotonic() + timeout_s
    while not future.done():
        left_s = ends_at - time.monotonic()
        with contextlib.suppress(TimeoutError):
            return future.result(max(0.0, min(left_s, SIGNAL_CHECK_S)))
        if left_s <= 0 and not future.done():
            raise TimeoutError
    return future.result()


class Work(Generic[T]):
    """Work on the loop. ``future`` is done as soon as it is cancelled, ``ended`` once the work has released what it holds."""

    def __init__(self, future: Future[T], ended: Future[None]) -> None:
        self.future = future
        self._ended = ended

    def wait_ended(self) -> None:
        """Blocks until the work has ended, also if it was cancelled."""
        wait_for(self._ended)

    async def join(self) -> T:
        """Awaits the result, on any event loop. Cancelling the caller cancels the work, and waits until it has ended."""
        try:
            return await asyncio.wrap_future(self.future)
        except asyncio.CancelledError:
            self.future.cancel()
            await asyncio.wait({asyncio.wrap_future(self._ended)}, timeout=STOP_SECONDS)
            raise

    def wait(self) -> T:
        """Blocks until the result is there. Ctrl-C cancels the work, and is raised after it has ended."""
        try:
            return wait_for(self.future)
        except KeyboardInterrupt:
            self.future.cancel()
            with contextlib.suppress(TimeoutError):
                self._ended.result(STOP_SECONDS)
            raise


class BackgroundLoop:
    """Starts on first use and ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0
        self._work: set[asyncio.Task[Any] | None] = set()
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Starts ``work`` on the loop. Cancelling the future cancels it there."""
        return self.start(work).future

    def start(self, work: Coroutine[Any, Any, T]) -> Work[T]:
        """Starts ``work`` on the loop, for a caller that waits for its end."""
        loop, ended, states = self._running(), Future[None](), list[str]()

        async def noted() -> T:
            states.append("started")
            task = asyncio.current_task()
            self._work.add(task)
            try:
                return await work
            finally:
                self._work.discard(task)
                ended.set_result(None)

        def end_unstarted(future: Future[T]) -> None:
            """Ends work that was cancelled before its first step, which then never runs."""

            def end() -> None:
                if not states:
                    work.close()
                    ended.set_result(None)

            if future.cancelled() and not loop.is_closed():
                loop.call_soon_threadsafe(end)

        future = asyncio.run_coroutine_threadsafe(noted(), loop)
        future.add_done_callback(end_unstarted)
        return Work(future, ended)

    def call(self, act: Callable[[], None]) -> None:
        """Schedules ``act`` on the loop."""
        self._running().call_soon_threadsafe(act)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work`` to its end, blocking this thread.

        Ctrl-C cancels the work, waits until it has ended its cells and calls, and is then raised.

        Raises:
            BlockingCallError: this is the loop's own thread.
        """
        if self.owns_current_thread():
            work.close()
            raise BlockingCallError
        return self.start(work).wait()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits ``work`` from any event loop. Cancelling the caller cancels the work, and waits until it has ended."""
        return await self.start(work).join()

    def result(self, future: Future[T], timeout_s: float | None = None) -> T:
        """Waits for a future that ``submit`` returned. Ctrl-C does not stop the work.

        Raises:
            BlockingCallError: this is the loop's own thread, and the work has not ended.
            TimeoutError: the work has not ended within ``timeout_s``; it continues.
        """
        if self.owns_current_thread() and not future.done():
            raise BlockingCallError
        return wait_for(future, timeout_s)

    def at_end(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Registers ``close`` to be awaited on the loop at the end of the process."""
        self._closers.append(close)

    def owns_current_thread(self) -> bool:
        """True on the loop's own thread, which would deadlock if it waited for the loop."""
        return self._pid == os.getpid() and self._thread is threading.current_thread()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                loop = asyncio.new_event_loop()
                self._loop, self._pid = loop, os.getpid()
                self._thread = threading.Thread(target=_serve, args=(loop,), name="rlm-engine", daemon=True)
                self._thread.start()
                atexit.register(self._end)
            return self._loop

    def _end(self) -> None:
        loop, thread = self._loop, self._thread
        if loop is None or thread is None or self._pid != os.getpid() or not thread.is_alive():
            return
        with contextlib.suppress(TimeoutError, CancelledError, KeyboardInterrupt):  # the process ends in any case
            asyncio.run_coroutine_threadsafe(self._finish(), loop).result(STOP_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(STOP_SECONDS)
        if not thread.is_alive():
            loop.close()

    async def _finish(self) -> None:
        """Cancels the submitted work, which ends its cells and calls; then closes the shared resources."""
        work = [task for task in self._work if task is not None]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await asyncio.gather(*(close() for close in self._closers), return_exceptions=True)
        await asyncio.get_running_loop().shutdown_default_executor()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """Runs the loop until it is stopped. ``sys.exit()`` in code of the user ends its task, not the runs of all others."""
    while True:
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            logger.exception("code on the engine's loop raised an exit; the loop goes on")
        else:
            return


BACKGROUND = BackgroundLoop()
