"""The scheduler of a run: one lane for each model, and the feedback of outcomes into lanes and retries."""

from __future__ import annotations

import asyncio
import random

import pytest

from rlm.core.errors import ProviderUnavailableError, RateLimitedError
from rlm.core.ids import ROOT
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.scheduler.retries import RetryPolicy
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import ScriptedModel, VirtualClock

REQUEST = Request((Message("user", "q"),))
MODEL = ScriptedModel([])


def test_lane_has_no_more_slots_than_the_model() -> None:
    scheduler = RunScheduler(concurrency=64)
    assert scheduler.lane(ScriptedModel([], slots=4)).ceiling == 4
    assert RunScheduler(concurrency=2).lane(ScriptedModel([], slots=4)).ceiling == 2


def test_models_of_one_name_share_a_lane() -> None:
    scheduler = RunScheduler()
    assert scheduler.lane(MODEL) is scheduler.lane(ScriptedModel([]))
    assert scheduler.lane(MODEL) is not scheduler.lane(ScriptedModel([], name="scripted:other"))


async def test_failure_that_pushes_back_halves_the_limit() -> None:
    scheduler = RunScheduler(concurrency=8, policy=RetryPolicy(first_delay_s=1.0), jitter=random.Random(1))
    slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
    delay_s = slot.failed(RateLimitedError("x"), 1)
    slot.release()
    assert delay_s is not None
    assert 0.5 <= delay_s <= 1.0
    assert (scheduler.lane(MODEL).limit, scheduler.lane(MODEL).in_flight) == (4, 0)


async def test_other_failures_leave_the_limit_alone() -> None:
    scheduler = RunScheduler(concurrency=8)
    slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
    slot.failed(ProviderUnavailableError("x", status=500), 1)
    assert scheduler.lane(MODEL).limit == 8


async def test_success_raises_a_lowered_limit() -> None:
    scheduler = RunScheduler(concurrency=8)
    slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
    slot.failed(RateLimitedError("x"), 1)
    slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
    slot.succeeded(Reply("ok", Usage(1), MODEL.name))
    assert scheduler.lane(MODEL).limit > 4


@pytest.mark.parametrize(("retry_after_s", "paused_s"), [(20.0, 20.0), (3_600.0, 120.0), (None, 0.0)])
def test_retry_after_pauses_the_lane(retry_after_s: float | None, paused_s: float) -> None:
    clock, scheduler = VirtualClock(), RunScheduler(policy=RetryPolicy(max_retry_after_s=120.0))

    async def main() -> None:
        slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
        await asyncio.sleep(5)
        slot.failed(RateLimitedError("x", retry_after_s=retry_after_s), 1)
        slot.release()
        await scheduler.acquire(MODEL, REQUEST, ROOT)

    clock.run(main())
    assert clock.now() == 5 + paused_s
