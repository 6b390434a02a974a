"""Limits a minute, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.errors import ModelError
from rlm.core.ids import NodeId
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.scheduler.dispatcher import Dispatcher
from rlm.scheduler.pace import Pace
from rlm.testing import VirtualClock

ROOT = NodeId("0")


class Meter:
    """A model that notes when calls came, and reports ``tokens`` for each."""

    name = "scripted:meter"
    window_tokens = 1_000

    def __init__(self, clock: VirtualClock, tokens: int = 10) -> None:
        self._clock = clock
        self._tokens = tokens
        self.came_at: list[float] = []

    async def ask(self, request: Request) -> Reply:
        self.came_at.append(self._clock.now())
        await asyncio.sleep(0.5)
        return Reply("ok", Usage(1, self._tokens // 2, output_tokens=self._tokens - self._tokens // 2), self.name)

    async def aclose(self) -> None:
        pass


class Silent:
    decided = False

    def listen(self) -> None: ...

    async def admit(self, attempt: int) -> None: ...

    def sent(self, attempt: int) -> None: ...

    def retried(self, attempt: int, delay_s: float, error: ModelError) -> None: ...


def ask_many(calls: int, tokens: int = 10, chars: int = 4, **limits: float) -> list[float]:
    """When each of the calls reached the model."""
    clock = VirtualClock()
    meter = Meter(clock, tokens)

    async def main() -> None:
        dispatcher = Dispatcher(**limits)  # type: ignore[arg-type]
        request = Request((Message("user", "x" * chars),), max_output_tokens=tokens)
        await asyncio.gather(*(dispatcher.ask(meter, request, node=ROOT, observer=Silent()) for _ in range(calls)))

    clock.run(main())
    return sorted(meter.came_at)


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(start <= other < start + 60 for other in times) for start in times)


def test_requests_a_minute_are_kept_and_used() -> None:
    times = ask_many(200, requests_per_minute=60)
    assert most_in_a_minute(times) <= 61
    assert times[-1] == pytest.approx(199, abs=1)


def test_tokens_a_minute_are_kept_and_corrected_by_what_was_used() -> None:
    """20 tokens each were feared and 10 used: the calls come as fast as 10 allow once that is known."""
    times = ask_many(60, tokens=10, chars=36, tokens_per_minute=100)
    assert times[-1] < 60 * 20 / 100 * 60
    assert most_in_a_minute(times[20:]) <= 12


def test_without_limits_all_leave_at_once() -> None:
    assert ask_many(50) == [0.0] * 50


def test_a_quiet_hour_earns_no_more_than_a_burst() -> None:
    pace = Pace(60)
    assert pace.reserve(1, 3600) == 0
    assert [pace.reserve(1, 3600) for _ in range(3)] == [1, 2, 3]


def test_one_call_larger_than_a_burst_leaves_at_once_and_is_paid_for_by_the_next() -> None:
    pace = Pace(60)
    assert pace.reserve(30, 0) == 0
    assert pace.reserve(1, 0) == 30
