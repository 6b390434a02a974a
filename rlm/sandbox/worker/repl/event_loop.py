"""One event loop per REPL, so that tasks outlive their cell, and an ``asyncio.run`` that works in any cell.

Plain asyncio refuses ``asyncio.run`` and ``run_until_complete`` while a loop is running, as in a cell that awaits. Here they
run in a thread of their own while the cell waits, as users of notebooks expect.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

_stock_run = asyncio.run
DRAIN_S = 0.5  # time for cancelled tasks to clean up after a cell was stopped


class ReplLoop(asyncio.SelectorEventLoop):
    def run_until_complete(self, future: Any) -> Any:
        if asyncio._get_running_loop() is None:
            return super().run_until_complete(future)
        if not asyncio.iscoroutine(future):
            raise RuntimeError("this cell already runs in the event loop: use `await` instead of run_until_complete()")
        return run_beside(future)


def run_beside(coro: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end in another thread's loop, while this thread waits."""
    began = threading.Event()
    place: list[Any] = []
    result: list[Any] = []
    failure: list[BaseException] = []

    async def main() -> Any:
        place.extend((asyncio.get_running_loop(), asyncio.current_task()))
        began.set()
        return await coro

    def work() -> None:
        try:
            result.append(_stock_run(main()))
        except BaseException as error:
            failure.append(error)
        finally:
            began.set()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        began.wait(DRAIN_S)
        if place and thread.is_alive():
            place[0].call_soon_threadsafe(place[1].cancel)
        raise
    if failure:
        raise failure[0]
    return result[0]


with (
    warnings.catch_warnings()
):  # deprecated since Python 3.14; its replacement, from 3.16 on, cannot set a default loop
    warnings.simplefilter("ignore", DeprecationWarning)

    class _LoopOnDemand(asyncio.DefaultEventLoopPolicy):
        """Creates the main thread's current loop on demand."""

        def __init__(self, demand: Callable[[], None]) -> None:
            super().__init__()
            self._demand = demand

        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            if threading.current_thread() is threading.main_thread():
                self._demand()
            return super().get_event_loop()


class LoopOwner:
    """Owns the REPL's loop, and replaces it after code closed it or an interrupt hit it.

    A loop takes half a megabyte, which most REPLs never need. It is created for the first cell that awaits or requests the
    current loop.
    """

    def __init__(self) -> None:
        self._made: ReplLoop | None = None
        asyncio.run = self.run
        asyncio.runners.run = self.run
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            asyncio.set_event_loop_policy(_LoopOnDemand(self._set_unless_set))

    @property
    def _loop(self) -> ReplLoop:
        return self._make() if self._made is None else self._made

    def _make(self) -> ReplLoop:
        self._made = ReplLoop()
        asyncio.set_event_loop(self._made)
        return self._made

    def _set_unless_set(self) -> None:
        if self._made is None:
            self._make()

    def ensure(self) -> None:
        """Before a cell: makes an open loop the current one of this thread, if the REPL has needed one yet."""
        if self._made is None:
            return
        if self._made.is_closed():
            self._make()
        else:
            asyncio.set_event_loop(self._made)

    def close(self) -> None:
        """Closes the loop if there is one."""
        if self._made is not None:
            self._made.close()

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        """Replaces ``asyncio.run``."""
        if asyncio._get_running_loop() is not None:
            return run_beside(main)
        try:
            return _stock_run(main, **options)
        finally:
            if threading.current_thread() is threading.main_thread():
                self.ensure()

    def run_cell(self, coro: Coroutine[Any, Any, object]) -> None:
        """Runs a cell that awaits."""
        task = self._loop.create_task(coro)
        try:
            self._loop.run_until_complete(task)
        except BaseException:
            if not task.done():  # stopped from outside, or by FINAL in another task
                self._renew()
            raise

    def _renew(self) -> None:
        """Replaces the loop, because an interrupt can have hit it in the middle of its own work."""
        old = self._loop
        self._make()
        old.set_exception_handler(lambda _loop, _context: None)  # errors of its remaining tasks are of no interest
        tasks = [task for task in asyncio.all_tasks(old) if not task.done()]
        for task in tasks:
            task.cancel()
        try:
            old.run_until_complete(asyncio.wait(tasks, timeout=DRAIN_S))
            old.close()
        except (Exception, SystemExit):
            return
        finally:
            asyncio.set_event_loop(self._loop)
