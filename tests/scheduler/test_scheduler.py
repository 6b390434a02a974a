"""The scheduler of a run: lanes shared by runs, and the feedback of outcomes into lanes, deadlines and retries."""

from __future__ import annotations

import asyncio
import gc
import random

import pytest

from rlm.core.errors import ModelError, ModelTimeoutError, ProviderUnavailableError, RateLimitedError
from rlm.core.ids import ROOT
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.models.openai_chat import OpenAIChat
from rlm.scheduler.limit import START
from rlm.scheduler.retries import RetryPolicy
from rlm.scheduler.scheduler import RunScheduler
from rlm.scheduler.slots import Lanes
from rlm.testing import ScriptedModel, VirtualClock

REQUEST = Request((Message("user", "q"),))
MODEL = ScriptedModel([])
REPLY = Reply("ok", Usage(1), MODEL.name)


class SmallModel(ScriptedModel):
    def __init__(self) -> None:
        super().__init__([])
        self.info = ModelInfo(1_000, slots=4)


async def test_lane_has_no_more_slots_than_the_model() -> None:
    assert RunScheduler(concurrency=64).lane(SmallModel()).limit.value == 4
    assert RunScheduler().lane(SmallModel()).limit.value == 4
    assert RunScheduler().lane(MODEL).limit.value == START


async def test_models_of_one_endpoint_share_a_lane() -> None:
    lanes = Lanes()

    def lane(model: str, key: str, url: str) -> object:
        return lanes.lane(OpenAIChat(model, api_key=key, base_url=url))

    shared = lane("m", "k", "http://host/v1")
    assert lane("m", "k", "http://host/v1") is shared
    for others in (("n", "k", "http://host/v1"), ("m", "l", "http://host/v1"), ("m", "k", "http://other/v1")):
        assert lane(*others) is not shared


async def test_models_of_users_are_told_apart_by_identity() -> None:
    lanes = Lanes()
    assert lanes.lane(MODEL) is lanes.lane(MODEL)
    assert lanes.lane(MODEL) is not lanes.lane(ScriptedModel([]))


async def test_lane_of_a_collected_model_is_dropped() -> None:
    lanes = Lanes()
    for _ in range(100):
        lanes.lane(ScriptedModel([]))
    gc.collect()
    (by_key,) = lanes._by_loop.values()
    assert not by_key


def test_lanes_do_not_leak_between_loops() -> None:
    lanes = Lanes()

    async def main() -> int:
        lane = RunScheduler(lanes).lane(MODEL)
        lane.limit.value -= 1
        return int(lane.limit.value)

    assert [VirtualClock().run(main()) for _ in range(3)] == [START - 1] * 3


async def test_refusal_lowers_the_limit_of_all_runs() -> None:
    lanes = Lanes()
    first, second = RunScheduler(lanes, policy=RetryPolicy(first_delay_s=1.0)), RunScheduler(lanes)
    slots = [await first.acquire(MODEL, REQUEST, ROOT) for _ in range(20)]
    delay_s = slots[0].failed(RateLimitedError("x"))
    slots[0].release()
    assert delay_s is not None
    assert 0.5 <= delay_s <= 1.0
    assert second.lane(MODEL).limit.value == first.in_flight == 19


async def test_refusal_of_a_lone_call_changes_nothing() -> None:
    scheduler = RunScheduler()
    slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
    slot.failed(RateLimitedError("x"))
    slot.release()
    assert scheduler.lane(MODEL).limit.value == START


@pytest.mark.parametrize("error", [ProviderUnavailableError("x", status=500), ModelTimeoutError("x")])
async def test_other_failures_leave_the_limit_alone(error: ModelError) -> None:
    scheduler = RunScheduler(concurrency=8)
    for _ in range(4):
        slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
        slot.failed(error)
        slot.release()
    assert scheduler.lane(MODEL).limit.value == START


@pytest.mark.parametrize(("retry_after_s", "paused_s"), [(20.0, 20.0), (3_600.0, 300.0), (None, 0.0)])
def test_retry_after_pauses_the_lane(retry_after_s: float | None, paused_s: float) -> None:
    clock, lanes = VirtualClock(), Lanes()

    async def main() -> None:
        slot = await RunScheduler(lanes).acquire(MODEL, REQUEST, ROOT)
        await asyncio.sleep(5)
        slot.failed(RateLimitedError("x", retry_after_s=retry_after_s))
        slot.release()
        await RunScheduler(lanes).acquire(MODEL, REQUEST, ROOT)

    clock.run(main())
    assert clock.now() == 5 + paused_s


def test_runs_share_the_pace_of_equal_limits() -> None:
    clock, lanes = VirtualClock(), Lanes()

    async def main() -> None:
        runs = [RunScheduler(lanes, requests_per_minute=60) for _ in range(5)]
        for slot in [await run.acquire(MODEL, REQUEST, ROOT) for run in runs for _ in range(2)]:
            slot.release()

    clock.run(main())
    assert clock.now() == 9


def test_deadline_adapts_to_the_latency_of_similar_calls() -> None:
    scheduler = RunScheduler(call_timeout_s=600.0, jitter=random.Random(1))

    async def main() -> list[float]:
        deadlines = []
        for latency_s in [2.0] * 8 + [7.0] * 5:
            slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
            deadlines.append(slot.timeout_s)
            await asyncio.sleep(latency_s)
            slot.succeeded(REPLY)
            slot.release()
        return deadlines

    deadlines = VirtualClock().run(main())
    assert deadlines[:8] == [600.0] * 8
    assert deadlines[8] == 20.0
    assert deadlines[-1] == 70.0


def test_deadline_grows_with_every_cut() -> None:
    scheduler = RunScheduler(call_timeout_s=100.0)

    async def main() -> list[float]:
        for _ in range(8):
            scheduler.lane(MODEL).latencies.of(REQUEST).record(0.2)
        deadlines, slot = [], None
        for _ in range(4):
            slot = await scheduler.acquire(MODEL, REQUEST, ROOT, slot)
            deadlines.append(slot.timeout_s)
            slot.failed(ModelTimeoutError("x"))
            slot.release()
        return deadlines

    assert VirtualClock().run(main()) == [5.0, 20.0, 80.0, 100.0]


async def test_slow_kinds_of_calls_do_not_share_deadlines() -> None:
    scheduler = RunScheduler()
    for _ in range(8):
        scheduler.lane(MODEL).latencies.of(REQUEST).record(0.2)
    long = Request((Message("user", "q" * 10_000),))
    turn = Request((Message("user", "q"),), role="node")
    wordy = Request((Message("user", "q"),), max_output_tokens=4_000)
    for request in (long, turn, wordy):
        slot = await scheduler.acquire(MODEL, request, ROOT)
        assert (slot.timeout_s, slot.straggler_s) == (600.0, None)
    slot = await scheduler.acquire(MODEL, REQUEST, ROOT)
    assert (slot.timeout_s, slot.straggler_s) == (5.0, 1.0)
