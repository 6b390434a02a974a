"""The stop switch of a run: ends it early, but with an answer. The deadline, the caller or a broken bound triggers it.

From then on the budget refuses every call except the root's last turn. Sub-calls of the root's cells end at once, with all nodes
below them, and the root is asked for its answer. Whatever has to react registers here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

# The switch is triggered this long before the deadline: the time to stop the root's cell, by force if needed, and to make its
# last turn, estimated from its turns so far.
CELL_STOP_S = 3.0
CELL_STOP_SHARE = 0.2  # of the time allowed at most, to stop a cell
STEPS = 6  # of that time: one to let the cell end, three between interrupts, the rest to restore a REPL that was killed
LEAD_FACTOR = 1.5
DEFAULT_LEAD_SHARE = 0.25  # of the time allowed, while no turn has ended yet
MAX_LEAD_SHARE = 0.5


class Stopped(Exception):
    """Code inside ``Stop.interrupting`` was ended by the switch. Never leaves the engine."""


class Stop:
    """The switch of one run. ``limit`` is the reason it was triggered, or None."""

    def __init__(self) -> None:
        self.limit: str | None = None
        self._callbacks: list[Callable[[str], None]] = []
        self._interruptions: set[_Interruption] = set()
        self._triggered = asyncio.Event()

    def trigger(self, limit: str) -> None:
        """End the run because of ``limit``. Only the first call counts."""
        if self.limit is not None:
            return
        self.limit = limit
        self._triggered.set()
        for callback in self._callbacks:
            callback(limit)
        for interruption in list(self._interruptions):
            interruption.cancel()

    def on_stop(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the limit when the switch is triggered."""
        self._callbacks.append(callback)

    async def wait(self) -> None:
        """Wait for the switch."""
        await self._triggered.wait()

    def interrupting(self) -> _Interruption:
        """Context manager: cancels its body when the switch is triggered, and raises Stopped instead."""
        return _Interruption(self, self._interruptions)


class _Interruption:
    """Like ``asyncio.timeout``, with the switch in place of a deadline."""

    def __init__(self, stop: Stop, active: set[_Interruption]) -> None:
        self._stop = stop
        self._active = active
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cancelled = False

    def __enter__(self) -> None:
        if self._stop.limit is not None:
            raise Stopped
        self._task = asyncio.current_task()
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self._active.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._active.discard(self)
        if self._cancelled and self._task is not None and self._task.uncancel() <= self._cancelling:
            if kind is not None and issubclass(kind, asyncio.CancelledError):
                raise Stopped from None
            if kind is None:
                raise Stopped  # the body ended in the same moment: its result is dropped with the cancellation

    def cancel(self) -> None:
        if not self._cancelled and self._task is not None:
            self._cancelled = True
            self._task.cancel()


class Deadline:
    """Triggers the switch early enough before a run's time limit that its last turn still fits."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self._stop = stop
        self._seconds = seconds
        self._longest_turn_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ends_at = 0.0

    @property
    def lead_s(self) -> float:
        """Time between the switch and the time limit."""
        turn_s = self.turn_s or DEFAULT_LEAD_SHARE * self._seconds
        return min(MAX_LEAD_SHARE * self._seconds, STEPS * self.step_s + turn_s)

    @property
    def step_s(self) -> float:
        """Time for each step of stopping a cell."""
        return min(CELL_STOP_S, CELL_STOP_SHARE * self._seconds) / STEPS

    @property
    def turn_s(self) -> float:
        """The time that the last turn can take, judging by earlier ones; 0 while there are none."""
        return LEAD_FACTOR * self._longest_turn_s

    @property
    def left_s(self) -> float:
        """Time until the time limit."""
        return max(0.0, self._ends_at - asyncio.get_running_loop().time())

    def start(self) -> None:
        """Start the run's time limit."""
        self._ends_at = asyncio.get_running_loop().time() + self._seconds
        self._schedule()

    def record_turn(self, seconds: float) -> None:
        """Record the duration of a root turn, which the last one can take as well."""
        self._longest_turn_s = max(self._longest_turn_s, seconds)
        self._schedule()

    def end(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self) -> None:
        self.end()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._ends_at - self.lead_s, self._stop.trigger, "seconds")
