"""One event loop for a whole REPL, so that tasks outlive their cell; and ``asyncio.run`` that works in any cell.

Where a loop is running already (a cell that awaits), ``asyncio.run`` and ``run_until_complete`` go to a thread of their own
and the cell waits for it: what a notebook's user expects, and what plain asyncio refuses.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

_stock_run = asyncio.run
DRAIN_S = 0.5  # how long cancelled tasks may clean up after a cell was stopped


class ReplLoop(asyncio.SelectorEventLoop):
    def run_until_complete(self, future: Any) -> Any:
        if asyncio._get_running_loop() is None:
            return super().run_until_complete(future)
        if not asyncio.iscoroutine(future):
            raise RuntimeError("this cell already runs in the event loop: use `await` instead of run_until_complete()")
        return run_beside(future)


def run_beside(coro: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end in a loop of another thread, while this one waits."""
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
):  # deprecated since Python 3.14; what takes its place, from 3.16 on, cannot be told a default
    warnings.simplefilter("ignore", DeprecationWarning)

    class _LoopOnDemand(asyncio.DefaultEventLoopPolicy):
        """The current loop of the main thread is made when somebody asks for it."""

        def __init__(self, demand: Callable[[], None]) -> None:
            super().__init__()
            self._demand = demand

        def get_event_loop(self) -> asyncio.AbstractEventLoop:
            if threading.current_thread() is threading.main_thread():
                self._demand()
            return super().get_event_loop()


class LoopOwner:
    """Owns the REPL's loop; replaces it when code closed it or an interrupt went through it.

    A loop takes half a megabyte, which most REPLs never need: it is made for the first cell that awaits, or that asks for
    the current loop.
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
        """Before a cell: an open loop, and the current one of this thread, if there was need of one yet."""
        if self._made is None:
            return
        if self._made.is_closed():
            self._make()
        else:
            asyncio.set_event_loop(self._made)

    def close(self) -> None:
        """Ends the loop, where one was made."""
        if self._made is not None:
            self._made.close()

    def run(self, main: Coroutine[Any, Any, Any], **options: Any) -> Any:
        """Stands in for ``asyncio.run``."""
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
        """An interrupt may have hit the loop in the middle of its own work: it is not used again."""
        old = self._loop
        self._make()
        old.set_exception_handler(lambda _loop, _context: None)  # what its tasks still raise is no longer of interest
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
