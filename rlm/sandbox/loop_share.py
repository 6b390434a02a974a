"""Fair shares of the event loop: limits on the time that one worker can take from everything else on it.

``StepQueue`` takes the steps of long work, such as decoding a large message, with pauses between them. ``LoopShare`` measures
short work that a worker can cause without end, such as empty messages, and says how long to ignore the worker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Any

from rlm.sandbox.worker.wire.pieces import Steps

SLICE_S = 0.002  # time without a pause; most messages need less
QUICK_S = 0.02  # time that one piece of work gets at full speed
SHARE = 1 / 3  # share of the loop for work beyond that
MAX_WORK_S = 10.0  # of processor time; a legal message of the largest size needs about one second


class TooSlow(Exception):
    """The work took longer than ``MAX_WORK_S``."""


def take_slice(steps: Steps[Any], slice_s: float = SLICE_S) -> bool:
    """Takes steps until the slice is used up. Raises StopIteration with the result at the end of the work."""
    until = perf_counter() + slice_s
    while True:
        next(steps)
        if perf_counter() > until:
            return True


class Work:
    """One piece of work in a StepQueue. ``on_end`` receives its result, or its exception."""

    __slots__ = ("cancelled", "on_end", "spent_s", "steps")

    def __init__(self, steps: Steps[Any], on_end: Callable[[Any, BaseException | None], None]) -> None:
        self.steps = steps
        self.on_end = on_end
        self.spent_s = SLICE_S
        self.cancelled = False


class StepQueue:
    """Takes the steps of several pieces of work in turn. Together they never hold the loop longer than one slice."""

    def __init__(self) -> None:
        self._work: deque[Work] = deque()
        self._scheduled = False

    def add(self, steps: Steps[Any], on_end: Callable[[Any, BaseException | None], None]) -> Work:
        work = Work(steps, on_end)
        self._work.append(work)
        self._schedule(0.0)
        return work

    def _schedule(self, delay_s: float) -> None:
        if self._work and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(delay_s, self._run)

    def _run(self) -> None:
        self._scheduled = False
        while self._work and self._work[0].cancelled:
            self._work.popleft()
        if not self._work:
            return
        work = self._work.popleft()
        started = thread_time()
        result, error, ended = None, None, True
        try:
            take_slice(work.steps)
            ended = False
        except StopIteration as end:
            result = end.value
        except Exception as raised:  # noqa: BLE001  handed to the owner of the work
            error = raised
        spent_s = thread_time() - started
        work.spent_s += spent_s
        if not ended and work.spent_s > MAX_WORK_S:
            ended, error = True, TooSlow(f"more than {MAX_WORK_S:g} s of decoding")
        if not ended:
            self._work.append(work)
        self._schedule(0.0 if work.spent_s < QUICK_S else spent_s * (1 / SHARE - 1))
        if ended:
            work.on_end(result, error)


class LoopShare:
    """Limits work of one worker to a share of the loop's time, after a burst.

    Args:
        share: the share that it can use for long.
        burst_s: time that it can use at once.
    """

    __slots__ = ("_at", "_burst_s", "_credit_s", "_share")

    def __init__(self, share: float, burst_s: float) -> None:
        self._share = share
        self._burst_s = self._credit_s = burst_s
        self._at = perf_counter()

    def spend(self, spent_s: float, now: float) -> float:
        """Counts work that ended ``now``. Returns the time for which there must not be more; mostly 0."""
        credit = min(self._burst_s, self._credit_s + (now - self._at) * self._share) - spent_s
        self._credit_s, self._at = credit, now
        return 0.0 if credit >= 0 else -credit / self._share
