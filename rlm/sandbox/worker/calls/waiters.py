"""How callers that wait for an answer are told to go on: threads that sleep, and coroutines of event loops.

Threads go on one after the other, in the order of their answers, each until it waits again: whoever wakes one hands the
interpreter over to it before the next is woken. Else the system would choose, and a cell that is executed again would not do
the same. It must not know what anybody waits for.
"""

from __future__ import annotations

import _thread
import asyncio
import threading
from typing import Protocol

HAND_OVER_S = 0.5  # how long a thread that was woken may take to notice, on a busy machine


def has_threads() -> bool:
    """Whether there are others than the main thread, also those that were told to start and have not begun to."""
    return bool(_thread._count()) or threading.active_count() > 1


class Waiter(Protocol):
    """How a caller that waits is told to look again."""

    @property
    def gone(self) -> bool:
        """Whether the caller that was woken has gone on."""
        ...

    def wake(self) -> None: ...

    def hand_over(self) -> bool:
        """Lets the caller that was woken go on. False where nothing more may be handed out before it has."""
        ...


class ThreadWaiter:
    """A thread that sleeps. ``done`` once it was woken."""

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
        """After ``wake``: lets that thread run on, until it waits again or has had its share. False where it is our own."""
        if threading.get_ident() == self._owner:
            return False
        self._noticed.acquire(timeout=HAND_OVER_S)
        return True

    def notice(self) -> None:
        """Called by the thread that was woken; whoever woke it comes to its turn when this one gives the interpreter up."""
        self.gone = True
        try:
            self._noticed.release()
        except RuntimeError:  # noticed already
            return

    def nudge(self) -> None:
        """Ends one ``sleep``, also one that has not begun."""
        try:
            self._token.release()
        except RuntimeError:  # nudged already
            return

    def sleep(self, timeout_s: float) -> None:
        self._token.acquire(timeout=timeout_s)


class LoopWaiter:
    """A coroutine that waits in its event loop."""

    __slots__ = ("_loop", "_owner", "future")
    gone = True  # its loop takes what it is given in order

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
        except RuntimeError:  # that loop was closed: nobody waits any more
            return

    def hand_over(self) -> bool:
        return True

    def _resolve(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
