"""Slots, retries and Retry-After in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rlm.core.errors import (
    AuthenticationError,
    EmptyReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnavailableError,
    RateLimitedError,
)
from rlm.core.ids import NodeId
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.scheduler.dispatcher import Dispatcher
from rlm.scheduler.lanes import Lane
from rlm.scheduler.retries import RetryPolicy, plan_retry
from rlm.testing import VirtualClock

A, B = NodeId("0"), NodeId("0/1.1.1")


class Provider:
    """A model that takes time and follows a script of failures; it counts what it sees."""

    name = "scripted:provider"
    window_tokens = 1_000

    def __init__(self, clock: VirtualClock, answer: Callable[[int], str | ModelError], latency_s: float = 1.0) -> None:
        self._clock = clock
        self._answer = answer
        self._latency_s = latency_s
        self.calls = 0
        self.in_flight = 0
        self.in_flight_max = 0
        self.sent_at: list[float] = []

    async def ask(self, request: Request) -> Reply:
        self.calls += 1
        number = self.calls
        self.sent_at.append(self._clock.now())
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            await asyncio.sleep(self._latency_s)
        finally:
            self.in_flight -= 1
        answer = self._answer(number)
        if isinstance(answer, ModelError):
            raise answer
        return Reply(answer, Usage(calls=1), self.name)

    async def aclose(self) -> None:
        pass


class Attempts:
    decided = False

    def __init__(self) -> None:
        self.told: list[str] = []

    def listen(self) -> None:
        return None

    async def admit(self, attempt: int) -> None:
        pass

    def sent(self, attempt: int) -> None:
        self.told.append(f"sent {attempt}")

    def retried(self, attempt: int, delay_s: float, error: ModelError) -> None:
        self.told.append(f"retried {attempt} {type(error).__name__}")


def request(text: str = "q") -> Request:
    return Request((Message("user", text),))


def test_never_more_in_flight_than_allowed_and_nothing_waits_needlessly() -> None:
    clock = VirtualClock()
    provider = Provider(clock, lambda _: "ok")
    dispatcher = Dispatcher(concurrency=8)

    async def main() -> None:
        await asyncio.gather(*(dispatcher.ask(provider, request(), node=A, observer=Attempts()) for _ in range(80)))

    clock.run(main())
    assert provider.in_flight_max == 8
    assert clock.now() == pytest.approx(10.0)


def test_a_model_with_fewer_slots_is_sent_no_more_calls_than_it_can_work_on() -> None:
    class Small(Provider):
        slots = 4

    clock = VirtualClock()
    provider = Small(clock, lambda _: "ok")
    dispatcher = Dispatcher(concurrency=64)

    async def main() -> None:
        await asyncio.gather(*(dispatcher.ask(provider, request(), node=A, observer=Attempts()) for _ in range(20)))

    clock.run(main())
    assert provider.in_flight_max == 4


def test_a_small_node_does_not_wait_behind_a_large_batch() -> None:
    clock = VirtualClock()
    provider = Provider(clock, lambda _: "ok")
    dispatcher = Dispatcher(concurrency=10)
    ended: dict[str, float] = {}

    async def ask(node: NodeId, name: str) -> None:
        await dispatcher.ask(provider, request(), node=node, observer=Attempts())
        ended[name] = clock.now()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(1_000):
                group.create_task(ask(A, f"batch {number}"))
            await asyncio.sleep(0.5)
            group.create_task(ask(B, "single"))

    clock.run(main())
    assert ended["single"] == pytest.approx(2.0)
    assert ended["batch 999"] > 90


def test_failures_that_may_pass_are_retried_and_told() -> None:
    clock = VirtualClock()
    provider = Provider(clock, lambda n: ProviderUnavailableError("down", status=500) if n < 3 else "ok")
    dispatcher = Dispatcher()
    attempts = Attempts()
    reply = clock.run(dispatcher.ask(provider, request(), node=A, observer=attempts))
    assert reply.text == "ok"
    retried = "ProviderUnavailableError"
    assert attempts.told == ["sent 1", f"retried 1 {retried}", "sent 2", f"retried 2 {retried}", "sent 3"]


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (AuthenticationError("no"), 1),
        (RateLimitedError("slow down", status=429), 4),
        (RateLimitedError("an hour", status=429, retry_after_s=3_600), 1),
        (EmptyReplyError("nothing"), 3),
    ],
)
def test_how_often_a_failure_is_tried(error: ModelError, calls: int) -> None:
    clock = VirtualClock()
    provider = Provider(clock, lambda _: error)
    dispatcher = Dispatcher(policy=RetryPolicy(retries=3))
    with pytest.raises(type(error)):
        clock.run(dispatcher.ask(provider, request(), node=A, observer=Attempts()))
    assert provider.calls == calls


def test_retry_after_stops_the_whole_lane() -> None:
    clock = VirtualClock()
    provider = Provider(
        clock, lambda n: RateLimitedError("wait", status=429, retry_after_s=20) if n == 1 else "ok", 0.1
    )
    dispatcher = Dispatcher(concurrency=1)

    async def main() -> None:
        await asyncio.gather(*(dispatcher.ask(provider, request(), node=A, observer=Attempts()) for _ in range(5)))

    clock.run(main())
    assert provider.calls == 6
    assert all(sent >= 20.1 for sent in provider.sent_at[1:])
    assert clock.now() < 25


def test_a_call_without_an_end_fails_after_its_deadline() -> None:
    clock = VirtualClock()
    provider = Provider(clock, lambda _: "late", latency_s=1e6)
    dispatcher = Dispatcher(call_timeout_s=30, policy=RetryPolicy(retries=1))
    with pytest.raises(ModelTimeoutError, match="30 s"):
        clock.run(dispatcher.ask(provider, request(), node=A, observer=Attempts()))
    assert provider.calls == 2


async def test_the_limit_halves_once_for_calls_in_flight_together_and_recovers() -> None:
    lane = Lane(64)
    rounds = [await lane.acquire(A) for _ in range(64)]
    for sent_in_round in rounds:
        lane.pushed_back(sent_in_round, 0.0)
        lane.release()
    assert lane.limit == 32
    for _ in range(32 * 64):
        lane.succeeded()
    assert lane.limit == 64


async def test_a_cancelled_waiter_gives_its_slot_to_the_next() -> None:
    lane = Lane(1)
    await lane.acquire(A)
    first, second = asyncio.create_task(lane.acquire(A)), asyncio.create_task(lane.acquire(A))
    await asyncio.sleep(0)
    lane.release()  # grants the slot to the first, which is cancelled before it can use it
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert lane.in_flight == 1


def test_delays_double_up_to_their_limit() -> None:
    policy = RetryPolicy(retries=10, first_delay_s=1, max_delay_s=8)
    delays = [plan_retry(RateLimitedError("x"), attempt, policy, jitter=1.0) for attempt in range(1, 7)]
    assert delays == [1, 2, 4, 8, 8, 8]
