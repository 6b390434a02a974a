"""The adaptive limit against simulated providers: it doubles, finds the provider's limit, and stays near it. In virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rlm.core.errors import ModelError, ProviderUnavailableError, RateLimitedError
from rlm.core.ids import ROOT
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.scheduler.limit import CEILING, START, AdaptiveLimit
from rlm.scheduler.scheduler import RunScheduler
from rlm.scheduler.slots import Lanes
from rlm.testing import ScriptedModel, VirtualClock

REQUEST = Request((Message("user", "q"),))
LATENCY_S = 0.2
MODEL = ScriptedModel([])


@dataclass
class Provider:
    """Refuses a call as ``refuses`` says, given the calls in flight with it; 5 to 10 ms after its send."""

    refuses: Callable[[int, float], bool]
    error: Callable[[], ModelError] = lambda: RateLimitedError("slow down", status=429)
    seed: random.Random = field(default_factory=lambda: random.Random(7))
    in_flight: int = 0
    in_flight_max: int = 0
    refused_at: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)

    async def answer(self) -> None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(self.seed.uniform(0.005, 0.010))
        if self.refuses(self.in_flight + 1, now):
            self.refused_at.append(now)
            raise self.error()
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        await asyncio.sleep(LATENCY_S)
        self.in_flight -= 1
        self.answered_at.append(now)

    def refused_share(self, since: float) -> float:
        """Share of the calls sent after ``since`` that were refused."""
        refused, answered = (sum(at > since for at in times) for times in (self.refused_at, self.answered_at))
        return refused / (refused + answered)


async def call(scheduler: RunScheduler, provider: Provider) -> None:
    slot = None
    while True:
        slot = await scheduler.acquire(MODEL, REQUEST, ROOT, slot)
        try:
            await provider.answer()
        except ModelError as error:
            delay_s = slot.failed(error)
            assert delay_s is not None
        else:
            slot.succeeded(Reply("ok", Usage(1), MODEL.name))
            return
        finally:
            slot.release()
        await asyncio.sleep(delay_s)


def make_calls(provider: Provider, calls: int, runs: int = 1) -> float:
    """Seconds until all calls of all runs are answered."""

    async def main() -> float:
        lanes = Lanes()
        schedulers = [RunScheduler(lanes, jitter=random.Random(number)) for number in range(runs)]
        await asyncio.gather(*(call(schedulers[number % runs], provider) for number in range(calls)))
        return asyncio.get_running_loop().time()

    return VirtualClock().run(main())


def slots(number: int) -> Callable[[int, float], bool]:
    return lambda in_flight, _: in_flight > number


def test_limit_doubles_every_round_up_to_its_ceiling() -> None:
    provider = Provider(slots(1_000_000))
    assert make_calls(provider, 12_000) < 8 * 0.22
    assert provider.in_flight_max > 0.9 * CEILING
    assert 6 * START <= sum(at < 0.6 for at in provider.answered_at) <= 7 * START + 1


@pytest.mark.parametrize("number", [1, 5, 20, 150])
@pytest.mark.parametrize("runs", [1, 10])
def test_limit_settles_near_the_slots_of_a_provider(number: int, runs: int) -> None:
    provider, calls = Provider(slots(number)), 60 * number
    seconds = make_calls(provider, calls, runs)
    assert provider.refused_share(since=1.0) < 0.03
    ideal_s = calls / number * (LATENCY_S + 0.0075)
    assert seconds < ideal_s / 0.9 + 0.5


def test_ten_runs_share_twenty_slots_within_six_seconds() -> None:
    provider = Provider(slots(20))
    assert make_calls(provider, 500, runs=10) < 6.0
    assert len(provider.refused_at) < 150


def test_unavailable_is_a_refusal_like_too_many_calls() -> None:
    provider = Provider(slots(20), lambda: ProviderUnavailableError("overloaded", status=503))
    assert make_calls(provider, 1_000) < 12
    assert provider.refused_share(since=1.0) < 0.03


def test_limit_follows_a_provider_that_takes_more() -> None:
    provider = Provider(lambda in_flight, now: in_flight > (20 if now < 10 else 200))
    make_calls(provider, 10_000)
    assert provider.in_flight_max > 150


def test_limit_follows_a_provider_that_takes_fewer() -> None:
    provider = Provider(lambda in_flight, now: in_flight > (100 if now < 10 else 20))
    make_calls(provider, 8_000)
    assert provider.refused_share(since=15.0) < 0.03


def test_random_refusals_do_not_serialise_calls() -> None:
    chance = random.Random(3)
    provider = Provider(lambda *_: chance.random() < 0.1)
    assert make_calls(provider, 2_000) < 20


def test_storm_of_a_minute_loses_no_call() -> None:
    provider = Provider(lambda _, now: now < 60, lambda: ProviderUnavailableError("down", status=503))
    assert make_calls(provider, 200) < 70
    assert len(provider.answered_at) == 200
    assert len(provider.refused_at) < 200


def test_storm_in_the_middle_is_survived() -> None:
    provider = Provider(lambda _, now: 2 < now < 30)
    assert make_calls(provider, 12_000) < 60
    assert sum(3 < at < 30 for at in provider.refused_at) < 30


async def test_own_limit_of_the_caller_is_the_start() -> None:
    lanes = Lanes()
    RunScheduler(lanes, concurrency=1_000).lane(MODEL)
    assert lanes.lane(MODEL).limit.value == 1_000


def test_own_limit_raises_no_start_after_a_refusal() -> None:
    limit = AdaptiveLimit()
    limit.refused(128, 0, 127)
    limit.raise_start(1_000)
    assert limit.value == 127
