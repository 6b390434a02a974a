"""The attempt loop: its order, its settlement, and every point at which it can be cancelled. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from call_kit import LATENCY_S, WORST_TOKENS, CallBench, TimedModel

from rlm.core.errors import (
    AuthenticationError,
    BudgetExceededError,
    EmptyReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
    RateLimitedError,
    RefusalError,
    TruncatedReplyError,
)
from rlm.core.events import CallBilled, CallFailed, CallReplied, CallRetried
from rlm.core.messages import Reply, Usage

RETRY_DELAY_S = 2.0  # half of ``first_delay_s``: no jitter
TOKENS = 30  # of ``USAGE``


def failing_once(error: ModelError) -> TimedModel:
    return TimedModel(lambda number: error if number == 1 else "ok")


def unavailable() -> ModelError:
    return ProviderUnavailableError("down", status=500)


async def cancel_at(bench: CallBench, seconds: float, work: Coroutine[Any, Any, Reply]) -> None:
    task = asyncio.create_task(work)
    await asyncio.sleep(seconds)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_reply_replaces_the_reservation_by_its_cost() -> None:
    bench = CallBench(TimedModel(lambda _: "ok"))

    async def main() -> Reply:
        task = asyncio.create_task(bench.caller.ask(bench.call()))
        assert await bench.state_at(0.5) == (WORST_TOKENS, 1)
        return await task

    assert bench.clock.run(main()).text == "ok"
    assert bench.log.kinds == ["started", "sent", "replied"]
    assert bench.spent == (1, TOKENS, 0)


def test_call_waits_for_budget_without_event_or_slot() -> None:
    model = TimedModel(lambda _: "ok")
    bench = CallBench(model, tokens=WORST_TOKENS + TOKENS)

    async def main() -> None:
        tasks = [asyncio.create_task(bench.caller.ask(bench.call())) for _ in range(2)]
        assert await bench.state_at(0.5) == (WORST_TOKENS, 1)
        assert bench.log.kinds == ["started", "sent"]
        await asyncio.gather(*tasks)

    bench.clock.run(main())
    assert model.sent_at == [0.0, LATENCY_S]
    assert bench.spent == (2, 2 * TOKENS, 0)


def test_refused_call_leaves_no_event() -> None:
    bench = CallBench(TimedModel(lambda _: "ok"), tokens=WORST_TOKENS - 1)
    with pytest.raises(BudgetExceededError):
        bench.clock.run(bench.caller.ask(bench.call()))
    assert bench.log.kinds == []
    assert bench.spent == (0, 0, 0)


def test_retry_delay_holds_neither_budget_nor_slot() -> None:
    model = failing_once(unavailable())
    bench = CallBench(model)

    async def main() -> None:
        task = asyncio.create_task(bench.caller.ask(bench.call()))
        assert await bench.state_at(0.5) == (WORST_TOKENS, 1)
        assert await bench.state_at(LATENCY_S + 0.5) == (0, 0)
        assert await bench.state_at(LATENCY_S + RETRY_DELAY_S + 0.5) == (WORST_TOKENS, 1)
        await task

    bench.clock.run(main())
    assert bench.log.kinds == ["started", "sent", "retried", "sent", "replied"]
    retried = bench.log.only(CallRetried)
    assert isinstance(retried, CallRetried)
    assert (retried.attempt, retried.delay_s, retried.reason) == (1, RETRY_DELAY_S, "ProviderUnavailableError: down")
    assert bench.spent == (1, TOKENS, 0)


def test_slot_is_free_during_a_retry_delay() -> None:
    model = failing_once(unavailable())
    bench = CallBench(model, concurrency=1)

    async def main() -> None:
        await asyncio.gather(*(bench.caller.ask(bench.call()) for _ in range(2)))

    bench.clock.run(main())
    assert model.sent_at == [0.0, LATENCY_S, LATENCY_S + RETRY_DELAY_S]


def test_retry_without_budget_fails_the_call() -> None:
    """The billed failure of the first attempt uses up what the second would need."""
    error = EmptyReplyError("nothing")
    error.usage = Usage(1, 20, output_tokens=10)
    bench = CallBench(failing_once(error), tokens=WORST_TOKENS)
    with pytest.raises(BudgetExceededError):
        bench.clock.run(bench.caller.ask(bench.call()))
    assert bench.log.kinds == ["started", "sent", "billed", "retried", "failed"]
    assert bench.spent == (1, TOKENS, 0)


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (AuthenticationError("no"), 1),
        (RefusalError("no"), 1),
        (RateLimitedError("slow down", status=429), 4),
        (RateLimitedError("an hour", status=429, retry_after_s=3_600), 1),
        (EmptyReplyError("nothing"), 3),
        (ProviderUnavailableError("down", status=500), 4),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else type(value).__name__,
)
def test_attempts_depend_on_the_failure(error: ModelError, attempts: int) -> None:
    model = TimedModel(lambda _: error)
    bench = CallBench(model)
    with pytest.raises(type(error)):
        bench.clock.run(bench.caller.ask(bench.call()))
    assert len(model.sent_at) == attempts
    assert bench.log.kinds.count("sent") == attempts
    assert bench.log.kinds.count("retried") == attempts - 1
    assert bench.log.kinds[-1] == "failed"


def billed_error() -> ModelError:
    error = TruncatedReplyError("cut")
    error.usage = Usage(1, 20, output_tokens=10)
    return error


def unreached_error() -> ModelError:
    error = ProviderUnreachableError("nobody listens")
    error.reached = False
    return error


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        pytest.param(AuthenticationError("no"), (1, 0, 0), id="turned away, counted as one call"),
        pytest.param(unreached_error(), (1, 0, 0), id="never reached the provider"),
        pytest.param(billed_error(), (1, TOKENS, 0), id="usage reported"),
        pytest.param(ProviderUnreachableError("broke off"), (1, WORST_TOKENS, WORST_TOKENS), id="cost unknown"),
    ],
)
def test_failed_call_is_settled_by_what_is_known(error: ModelError, spent: tuple[int, int, int]) -> None:
    bench = CallBench(TimedModel(lambda _: error), retries=0)
    with pytest.raises(type(error)):
        bench.clock.run(bench.caller.ask(bench.call()))
    assert bench.log.kinds == ["started", "sent", "billed", "failed"]
    assert bench.spent == spent


def test_free_retries_count_no_call() -> None:
    bench = CallBench(TimedModel(lambda _: unavailable()))
    with pytest.raises(ProviderUnavailableError):
        bench.clock.run(bench.caller.ask(bench.call()))
    assert bench.spent == (1, 0, 0)


@pytest.mark.parametrize("worst", [WORST_TOKENS, 0], ids=["tokens counted", "calls counted"])
def test_free_failure_after_a_bill_counts_nothing(worst: int) -> None:
    bench = CallBench(
        TimedModel(lambda number: ProviderUnreachableError("broke off") if number == 1 else AuthenticationError("no"))
    )
    with pytest.raises(AuthenticationError):
        bench.clock.run(bench.caller.ask(bench.call(worst=worst)))
    assert bench.spent == (1, worst, worst)


def test_timed_out_attempt_is_assumed_at_its_reservation() -> None:
    model = TimedModel(lambda _: "late", latency_s=1e6)
    bench = CallBench(model, timeout_s=30.0, retries=1)
    with pytest.raises(ModelTimeoutError, match="within 30 s"):
        bench.clock.run(bench.caller.ask(bench.call()))
    assert model.sent_at == [0.0, 30.0 + RETRY_DELAY_S]
    assert bench.log.kinds == ["started", "sent", "billed", "retried", "sent", "billed", "failed"]
    assert bench.spent == (2, 2 * WORST_TOKENS, 2 * WORST_TOKENS)


def test_timeout_excludes_the_wait_for_a_slot() -> None:
    model = TimedModel(lambda _: "ok", latency_s=20.0)
    bench = CallBench(model, concurrency=1, timeout_s=30.0)

    async def main() -> list[Reply]:
        return await asyncio.gather(*(bench.caller.ask(bench.call()) for _ in range(3)))

    assert [reply.text for reply in bench.clock.run(main())] == ["ok"] * 3
    assert model.sent_at == [0.0, 20.0, 40.0]


def test_retry_after_pauses_every_call_to_the_model() -> None:
    model = failing_once(RateLimitedError("wait", status=429, retry_after_s=20))
    bench = CallBench(model, concurrency=1)

    async def main() -> None:
        await asyncio.gather(*(bench.caller.ask(bench.call()) for _ in range(3)))

    bench.clock.run(main())
    assert model.sent_at[0] == 0.0
    assert min(model.sent_at[1:]) == LATENCY_S + 20
    assert len(model.sent_at) == 4


def test_cancellation_while_waiting_for_a_slot_is_free() -> None:
    bench = CallBench(TimedModel(lambda _: "ok", latency_s=10.0), concurrency=1)

    async def main() -> None:
        first = asyncio.create_task(bench.caller.ask(bench.call()))
        await cancel_at(bench, 1.0, bench.caller.ask(bench.call()))
        await first

    bench.clock.run(main())
    failed = bench.log.only(CallFailed)
    assert isinstance(failed, CallFailed)
    assert (failed.error, failed.message) == ("CancelledError", "stopped before its reply came")
    assert bench.log.kinds == ["started", "sent", "started", "failed", "replied"]
    assert bench.spent == (1, TOKENS, 0)


def test_cancellation_while_waiting_for_budget_leaves_no_trace() -> None:
    bench = CallBench(TimedModel(lambda _: "ok"), tokens=WORST_TOKENS)

    async def main() -> None:
        first = asyncio.create_task(bench.caller.ask(bench.call()))
        await cancel_at(bench, 0.5, bench.caller.ask(bench.call()))
        await first

    bench.clock.run(main())
    assert bench.log.kinds == ["started", "sent", "replied"]
    assert bench.spent == (1, TOKENS, 0)


def test_cancelled_attempt_is_assumed_at_its_reservation() -> None:
    bench = CallBench(TimedModel(lambda _: "ok"))
    bench.clock.run(cancel_at(bench, 0.5, bench.caller.ask(bench.call())))
    assert bench.log.kinds == ["started", "sent", "billed", "failed"]
    billed = bench.log.only(CallBilled)
    assert isinstance(billed, CallBilled)
    assert (billed.usage, billed.assumed_tokens) == (Usage(), WORST_TOKENS)
    assert bench.spent == (1, WORST_TOKENS, WORST_TOKENS)


def test_cancellation_during_a_retry_delay_is_free() -> None:
    model = TimedModel(lambda _: unavailable())
    bench = CallBench(model)
    bench.clock.run(cancel_at(bench, LATENCY_S + 0.5, bench.caller.ask(bench.call())))
    assert model.sent_at == [0.0]
    assert bench.log.kinds == ["started", "sent", "retried", "failed"]
    assert bench.spent == (0, 0, 0)


def test_cancelled_retry_waiting_for_a_slot_is_free() -> None:
    model = failing_once(unavailable())
    bench = CallBench(model, concurrency=1, timeout_s=100.0)

    async def main() -> None:
        retried = asyncio.create_task(bench.caller.ask(bench.call()))
        await asyncio.sleep(0.5)
        model.latency_s = 20.0
        other = asyncio.create_task(bench.caller.ask(bench.call()))
        assert await bench.state_at(LATENCY_S + RETRY_DELAY_S + 1) == (2 * WORST_TOKENS, 1)
        retried.cancel()
        await other

    bench.clock.run(main())
    assert bench.log.kinds == ["started", "sent", "started", "retried", "sent", "failed", "replied"]
    assert bench.spent == (1, TOKENS, 0)


def test_cancelled_call_passes_its_budget_to_the_next() -> None:
    model = TimedModel(lambda _: "ok", latency_s=10.0)
    bench = CallBench(model, tokens=2 * WORST_TOKENS, concurrency=1)

    async def main() -> None:
        first, waits_for_slot, waits_for_budget = (
            asyncio.create_task(bench.caller.ask(bench.call())) for _ in range(3)
        )
        assert await bench.state_at(1.0) == (2 * WORST_TOKENS, 1)
        waits_for_slot.cancel()
        await asyncio.gather(first, waits_for_budget)
        assert waits_for_slot.cancelled()

    bench.clock.run(main())
    assert bench.log.kinds.count("replied") == 2
    assert bench.spent == (2, 2 * TOKENS, 0)


def test_elapsed_time_of_a_reply_covers_its_retries() -> None:
    bench = CallBench(failing_once(unavailable()))
    bench.clock.run(bench.caller.ask(bench.call()))
    replied = bench.log.only(CallReplied)
    assert isinstance(replied, CallReplied)
    assert replied.elapsed_s == 2 * LATENCY_S + RETRY_DELAY_S
