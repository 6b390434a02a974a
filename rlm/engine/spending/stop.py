"""How a run is told to end early and still answer: one switch, whoever throws it (the deadline, the caller, a broken bound).

From then on the budget refuses every call but the root's last turn, sub-calls of the root's cells end at once (and with them
all that runs below), and the root is asked for its answer. What the switch does is registered here by those who do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

# The switch is thrown this long before the deadline: time to stop the root's cell, by force if need be, and for its last
# turn, by what its turns took so far.
CELL_STOP_S = 3.0
LEAD_FACTOR = 1.5
UNKNOWN_LEAD_SHARE = 0.25  # while no turn has ended yet
MOST_LEAD_SHARE = 0.5


class Stopped(Exception):
    """What ran inside ``Stop.interrupting`` was ended by the switch. Never leaves the engine."""


class Stop:
    """The switch of one run. ``limit`` says why it was thrown; None while it was not."""

    def __init__(self) -> None:
        self.limit: str | None = None
        self._told: list[Callable[[str], None]] = []
        self._running: set[_Interruption] = set()
        self._thrown = asyncio.Event()

    def throw(self, limit: str) -> None:
        """Only the first time counts."""
        if self.limit is not None:
            return
        self.limit = limit
        self._thrown.set()
        for tell in self._told:
            tell(limit)
        for running in list(self._running):
            running.end()

    def tells(self, tell: Callable[[str], None]) -> None:
        """Has ``tell`` called with the limit when the switch is thrown."""
        self._told.append(tell)

    async def wait(self) -> None:
        await self._thrown.wait()

    def interrupting(self) -> _Interruption:
        """``with``: cancels what is inside when the switch is thrown, and raises Stopped in its place."""
        return _Interruption(self, self._running)


class _Interruption:
    """Like ``asyncio.timeout``, with the switch in place of the clock."""

    def __init__(self, stop: Stop, running: set[_Interruption]) -> None:
        self._stop = stop
        self._running = running
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._ended = False

    def __enter__(self) -> None:
        if self._stop.limit is not None:
            raise Stopped
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._running.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.discard(self)
        if self._ended and self._task is not None and self._task.uncancel() <= self._cancelling:
            if kind is not None and issubclass(kind, asyncio.CancelledError):
                raise Stopped from None
            if kind is None:
                raise Stopped  # it ended in the same moment: the cancellation is taken back, the result is not looked at

    def end(self) -> None:
        if not self._ended and self._task is not None:
            self._ended = True
            self._task.cancel()


class Deadline:
    """Throws the switch early enough before the end of a run's time that its last turn still fits."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self._stop = stop
        self._seconds = seconds
        self._longest_turn_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = 0.0

    @property
    def lead_s(self) -> float:
        """How long before the end the switch is thrown."""
        turn_s = LEAD_FACTOR * self._longest_turn_s or UNKNOWN_LEAD_SHARE * self._seconds
        return min(MOST_LEAD_SHARE * self._seconds, CELL_STOP_S + turn_s)

    @property
    def left_s(self) -> float:
        return max(0.0, self._ends_at - asyncio.get_running_loop().time())

    def start(self) -> None:
        self._ends_at = asyncio.get_running_loop().time() + self._seconds
        self._plan()

    def turn_took(self, seconds: float) -> None:
        """A turn of the root ended: the last one may take as long."""
        self._longest_turn_s = max(self._longest_turn_s, seconds)
        self._plan()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _plan(self) -> None:
        self.end()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._ends_at - self.lead_s, self._stop.throw, "seconds")
