"""Limits on requests and tokens a minute."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.ids import ROOT
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.scheduler.pace import Pace, Pacer, Paces, estimate_tokens
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import ScriptedModel, VirtualClock

MODEL = ScriptedModel([])


def times_of(calls: int, *, tokens: int = 10, chars: int = 4, **limits: float) -> list[float]:
    """Times at which the scheduler sends calls of half a second that use ``tokens`` each."""
    scheduler = RunScheduler(**limits)  # type: ignore[arg-type]
    request = Request((Message("user", "x" * chars),), max_output_tokens=tokens)
    sent: list[float] = []

    async def call() -> None:
        slot = await scheduler.acquire(MODEL, request, ROOT)
        sent.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.5)
        slot.succeeded(Reply("ok", Usage(1, tokens // 2, output_tokens=tokens - tokens // 2), MODEL.name))
        slot.release()

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(calls)))

    VirtualClock().run(main())
    return sorted(sent)


def most_in_a_minute(times: list[float]) -> int:
    return max(sum(start <= other < start + 60 for other in times) for start in times)


def test_requests_a_minute_are_used_and_not_exceeded() -> None:
    times = times_of(200, requests_per_minute=60)
    assert most_in_a_minute(times) <= 61
    assert times[-1] == pytest.approx(199, abs=1)


def test_token_estimates_are_corrected_by_usage() -> None:
    pacer, scheduler = Pacer(None, 60), RunScheduler(tokens_per_minute=60)
    request = Request((Message("user", "x" * 36),), max_output_tokens=10)
    reply = Reply("ok", Usage(1, 5, output_tokens=5), MODEL.name)
    assert pacer.reserve(request, 0.0) == 0
    assert pacer.reserve(request, 0.0) == estimate_tokens(request) == 20
    pacer.correct(request, reply)
    assert pacer.reserve(request, 0.0) == 2 * 20 - 10

    async def sequence() -> float:
        for _ in range(7):
            slot = await scheduler.acquire(MODEL, request, ROOT)
            slot.succeeded(reply)
            slot.release()
        return asyncio.get_running_loop().time()

    assert VirtualClock().run(sequence()) == 6 * 10


def test_tokens_a_minute_are_not_exceeded() -> None:
    assert most_in_a_minute(times_of(60, tokens=10, chars=36, tokens_per_minute=100)) <= 6


def test_calls_without_limits_leave_at_once() -> None:
    assert times_of(50) == [0.0] * 50


def test_runs_with_equal_limits_share_a_pace() -> None:
    paces, request = Paces(), Request((Message("user", "q"),))
    pacers = [paces.pacer(60, None) for _ in range(3)]
    assert [pacer.reserve(request, 0.0) for pacer in pacers if pacer] == [0, 1, 2]
    assert paces.pacer(None, None) is None


def test_stricter_of_two_limits_counts() -> None:
    request = Request((Message("user", "q"),), max_output_tokens=99)
    pacer = Pacer(6_000, 6_000)
    assert estimate_tokens(request) == 100
    assert [pacer.reserve(request, 0.0) for _ in range(3)] == [0, 1, 2]


def test_quiet_hour_earns_no_more_than_a_burst() -> None:
    pace = Pace(60)
    assert pace.reserve(1, 3600) == 0
    assert [pace.reserve(1, 3600) for _ in range(3)] == [1, 2, 3]


def test_call_above_a_burst_delays_the_next() -> None:
    pace = Pace(60)
    assert pace.reserve(30, 0) == 0
    assert pace.reserve(1, 0) == 30
