"""Hedged stragglers: batches end in time, the first answer wins, and every request is paid for. Under ``VirtualClock``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from call_kit import USAGE, WORST_TOKENS, CallBench

from rlm.core.errors import ModelError, ProviderUnreachableError, RateLimitedError
from rlm.core.events import CallBilled, CallSent
from rlm.core.messages import Reply, Request
from rlm.core.model_info import ModelInfo
from rlm.engine.calling.caller import Caller
from rlm.engine.replay.resume import OpenCalls

NORMAL_S = 0.2
HANGS = 1e6
TOKENS = USAGE.total_tokens


@dataclass
class UnevenModel:
    """Answers after ``latency(prompt, n)`` seconds, for the n-th request of a prompt. ``errors`` raises in place of a reply."""

    latency: Callable[[str, int], float]
    errors: dict[tuple[str, int], ModelError] = field(default_factory=dict)
    name: str = "scripted:uneven"
    info: ModelInfo = ModelInfo(1_000)
    asked: list[tuple[str, float]] = field(default_factory=list)
    cancelled: int = 0

    async def ask(self, request: Request) -> Reply:
        prompt = request.messages[0].text
        self.asked.append((prompt, asyncio.get_running_loop().time()))
        number = sum(asked == prompt for asked, _ in self.asked)
        try:
            await asyncio.sleep(self.latency(prompt, number))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if (error := self.errors.get((prompt, number))) is not None:
            raise error
        return Reply(f"{prompt}: {number}", USAGE, self.name)

    async def aclose(self) -> None: ...


def slow(*prompts: int, seconds: float = HANGS, always: bool = False) -> Callable[[str, int], float]:
    """The first request of some prompts takes long, or all of them do."""
    names = {f"p{prompt}" for prompt in prompts}
    return lambda prompt, number: seconds if prompt in names and (always or number == 1) else NORMAL_S


def run_batch(bench: CallBench, calls: int, caller: Caller | None = None) -> list[Reply | BaseException]:
    async def main() -> list[Reply | BaseException]:
        asker = caller or bench.caller
        work = (asker.ask(bench.call(f"p{number}", batch=1)) for number in range(calls))
        return await asyncio.gather(*work, return_exceptions=True)

    return bench.clock.run(main())


def bench_of(model: UnevenModel, *, tokens: int = 1_000_000, concurrency: int = 1_000) -> CallBench:
    return CallBench(model, tokens=tokens, concurrency=concurrency, timeout_s=600.0)


def hedges(bench: CallBench) -> int:
    return sum(isinstance(event, CallSent) and event.hedge for event in bench.log.events)


def test_hanging_call_of_ten_is_hedged() -> None:
    bench = bench_of(UnevenModel(slow(3)))
    replies = run_batch(bench, 10)
    assert bench.clock.now() < 1.5
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [
        f"p{number}: {2 if number == 3 else 1}" for number in range(10)
    ]
    assert hedges(bench) == 1


def test_slow_calls_do_not_hold_a_batch() -> None:
    bench = bench_of(UnevenModel(slow(50, 150, seconds=10.0)))
    run_batch(bench, 200)
    assert bench.clock.now() < 2.5
    assert hedges(bench) == 2


def test_hanging_call_meets_a_deadline_and_is_retried() -> None:
    """The hedge hangs as well. The deadline is ten times what is normal, and at least 5 s."""
    model = UnevenModel(lambda prompt, number: HANGS if prompt == "p3" and number <= 2 else NORMAL_S)
    bench = bench_of(model)
    replies = run_batch(bench, 10)
    assert isinstance(replies[3], Reply)
    assert 5.0 < bench.clock.now() < 8.0
    assert bench.spent == (12, 10 * TOKENS + 2 * WORST_TOKENS, 2 * WORST_TOKENS)


@pytest.mark.parametrize("calls", [10, 30])
def test_hanging_calls_without_hedges_meet_a_deadline(calls: int) -> None:
    bench = bench_of(UnevenModel(slow(1, 2)))
    replies = run_batch(bench, calls)
    assert all(isinstance(reply, Reply) for reply in replies)
    assert hedges(bench) == 1
    assert bench.clock.now() < 8.0


def test_deadline_leaves_slow_models_their_time() -> None:
    bench = bench_of(UnevenModel(lambda prompt, number: 70.0 if prompt == "p3" else 8.0))
    replies = run_batch(bench, 10, Caller(bench.scheduler, bench.services, hedge=False))
    assert isinstance(replies[3], Reply)
    assert bench.spent == (10, 10 * TOKENS, 0)


def test_loser_is_cancelled_and_assumed() -> None:
    model = UnevenModel(slow(3))
    bench = bench_of(model)
    run_batch(bench, 10)
    assert model.cancelled == 1
    assert bench.spent == (11, 10 * TOKENS + WORST_TOKENS, WORST_TOKENS)
    billed = bench.log.only(CallBilled)
    assert isinstance(billed, CallBilled)
    assert billed.assumed_tokens == WORST_TOKENS
    assert bench.log.kinds[-2:] == ["billed", "replied"]


def test_first_request_can_still_win() -> None:
    model = UnevenModel(lambda prompt, number: (1.1 if number == 1 else HANGS) if prompt == "p3" else NORMAL_S)
    bench = bench_of(model)
    replies = run_batch(bench, 10)
    assert isinstance(replies[3], Reply)
    assert replies[3].text == "p3: 1"
    assert (bench.clock.now(), model.cancelled) == (1.1, 1)
    assert bench.spent == (11, 10 * TOKENS + WORST_TOKENS, WORST_TOKENS)


@pytest.mark.parametrize(
    ("error", "extra"),
    [(RateLimitedError("no", status=429), (0, 0)), (ProviderUnreachableError("broke off"), (1, WORST_TOKENS))],
)
def test_failed_hedge_leaves_the_first_request_alone(error: ModelError, extra: tuple[int, int]) -> None:
    model = UnevenModel(slow(3, seconds=3.0), {("p3", 2): error})
    bench = bench_of(model)
    replies = run_batch(bench, 10)
    assert isinstance(replies[3], Reply)
    assert replies[3].text == "p3: 1"
    assert bench.spent == (10 + extra[0], 10 * TOKENS + extra[1], extra[1])


def test_hedges_are_two_percent_of_a_batch() -> None:
    bench = bench_of(UnevenModel(slow(*range(20), seconds=3.0)))
    run_batch(bench, 200)
    assert hedges(bench) == 4


def test_no_hedge_without_budget_for_it() -> None:
    """The eleventh worst case does not fit: nothing is sent, and nothing waits."""
    bench = bench_of(UnevenModel(slow(3, seconds=3.0)), tokens=9 * TOKENS + WORST_TOKENS + 99)
    run_batch(bench, 10)
    assert hedges(bench) == 0
    assert bench.spent == (10, 10 * TOKENS, 0)


def test_no_hedge_without_a_free_slot() -> None:
    bench = bench_of(UnevenModel(slow(9, seconds=3.0)), concurrency=1)
    run_batch(bench, 10)
    assert hedges(bench) == 0


def test_no_hedge_while_most_calls_are_open() -> None:
    bench = bench_of(UnevenModel(slow(*range(4, 10), seconds=3.0)))
    run_batch(bench, 10)
    assert hedges(bench) == 0


def test_hedging_can_be_turned_off() -> None:
    bench = bench_of(UnevenModel(slow(3, seconds=3.0)))
    run_batch(bench, 10, Caller(bench.scheduler, bench.services, hedge=False))
    assert (hedges(bench), bench.clock.now()) == (0, 3.0)


def test_calls_outside_batches_are_not_hedged() -> None:
    bench = bench_of(UnevenModel(slow(3, seconds=3.0)))

    async def main() -> None:
        await asyncio.gather(*(bench.caller.ask(bench.call(f"p{number}")) for number in range(10)))

    bench.clock.run(main())
    assert hedges(bench) == 0


def test_cancelled_batch_settles_both_requests() -> None:
    bench = bench_of(UnevenModel(slow(3, always=True)))

    async def main() -> None:
        tasks = [asyncio.create_task(bench.caller.ask(bench.call(f"p{number}", batch=1))) for number in range(10)]
        await asyncio.sleep(1.3)
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    bench.clock.run(main())
    assert bench.spent == (11, 9 * TOKENS + 2 * WORST_TOKENS, 2 * WORST_TOKENS)


def test_resume_counts_both_requests_in_flight() -> None:
    bench = bench_of(UnevenModel(slow(3, always=True)))

    async def main() -> OpenCalls:
        tasks = [asyncio.create_task(bench.caller.ask(bench.call(f"p{number}", batch=1))) for number in range(10)]
        await asyncio.sleep(1.3)
        lost = OpenCalls.of(list(bench.log.events))
        tasks[3].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return lost

    lost = bench.clock.run(main())
    assert [1 + lost.hedges[call] for call in lost.lost] == [2]
