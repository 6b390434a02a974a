"""Waiters: they resume callers whose answers have arrived, in threads or event loops.

Threads resume one after the other, in the order of their answers, each until it waits again. Waking a thread hands the
interpreter over to it before the next one is woken. Otherwise the operating system would choose the order, and a cell that
is executed again could behave differently. This module must not know the reason for a wait.
"""

from __future__ import annotations

import _thread
import asyncio
import threading
from typing import Protocol

HAND_OVER_S = 0.5  # time for a woken thread to notice, on a busy machine


def has_threads() -> bool:
    """True if threads other than the main one exist, including those that are still starting."""
    return bool(_thread._count()) or threading.active_count() > 1


class Waiter(Protocol):
    """Resumes one waiting caller."""

    @property
    def gone(self) -> bool:
        """True once the woken caller has continued."""
        ...

    def wake(self) -> None: ...

    def hand_over(self) -> bool:
        """Lets the woken caller continue. Returns False if nothing more must be delivered before it has."""
        ...


class ThreadWaiter:
    """A sleeping thread. ``done`` is True once it was woken."""

    __slots__ = ("_noticed", "_owner", "_token", "done", "gone")

    def __init__(self) -> None:
        self.done = False
        self.gone = False
        self._owner = threading.get_ident()
        self._noticed = _thread.allocate_lock()
        self._noticed.acquire()
        self._token = _thread.allocate_lock()
        self._token.acquire()

    def wake(self) -> None:
        self.done = True
        self.nudge()

    def hand_over(self) -> bool:
        """Lets the woken thread run until it waits again or its time slice ends. Returns False in that thread itself."""
        if threading.get_ident() == self._owner:
            return False
        self._noticed.acquire(timeout=HAND_OVER_S)
        return True

    def notice(self) -> None:
        """Records that the woken thread runs. The waking thread continues when this one releases the interpreter."""
        self.gone = True
        try:
            self._noticed.release()
        except RuntimeError:  # noticed already
            return

    def nudge(self) -> None:
        """Ends one ``sleep``, even one that has not started."""
        try:
            self._token.release()
        except RuntimeError:  # nudged already
            return

    def sleep(self, timeout_s: float) -> None:
        self._token.acquire(timeout=timeout_s)


class LoopWaiter:
    """A coroutine that waits in its event loop."""

    __slots__ = ("_loop", "_owner", "future")
    gone = True  # its loop runs callbacks in order

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._owner = threading.get_ident()
        self.future: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        try:
            if threading.get_ident() == self._owner:
                self._resolve()
            else:
                self._loop.call_soon_threadsafe(self._resolve)
        except RuntimeError:  # that loop was closed, so no coroutine waits any more
            return

    def hand_over(self) -> bool:
        return True

    def _resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
