"""Waiting for budget: in the order of asking, as long as calls under way may free enough, never for nothing."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.budget import Amounts, Budget
from rlm.core.errors import BudgetExceededError
from rlm.core.ids import ROOT
from rlm.core.ledger import NOTHING, Ledger, Need
from rlm.engine.spending.reservations import Reservations
from rlm.engine.spending.stop import Stop, Stopped


def need(tokens: int) -> Need:
    return Need(Amounts(1, tokens))


def books(tokens: int) -> tuple[Reservations, Stop]:
    stop = Stop()
    return Reservations(Ledger(Budget(tokens=tokens)), stop), stop


async def test_those_who_wait_are_served_in_order_when_calls_settle_for_less() -> None:
    holds, _ = books(100)
    first = await holds.take(need(90))
    order: list[int] = []

    async def wait(tokens: int) -> None:
        hold = await holds.take(need(tokens))
        order.append(tokens)
        holds.settle(hold, Amounts(1, 1))

    waiting = [asyncio.create_task(wait(tokens)) for tokens in (50, 5, 40)]
    await asyncio.sleep(0)
    assert order == []  # the small one does not overtake
    holds.settle(first, Amounts(1, 10))
    await asyncio.gather(*waiting)
    assert order == [50, 5, 40]
    assert (holds.ledger.held, holds.ledger.spent.tokens) == (NOTHING, 13)


async def test_who_waits_in_vain_is_refused_as_soon_as_that_is_sure() -> None:
    holds, _ = books(100)
    first = await holds.take(need(60))
    waiting = asyncio.create_task(holds.take(need(50)))
    await asyncio.sleep(0)
    holds.settle(first, Amounts(1, 60))
    with pytest.raises(BudgetExceededError, match="needs up to 50 tokens, and 40 tokens is left"):
        await waiting
    with pytest.raises(BudgetExceededError):
        await holds.take(need(41))
    assert holds.refused["tokens"] == 2


async def test_a_waiter_that_is_cancelled_leaves_nothing_behind() -> None:
    holds, _ = books(100)
    first = await holds.take(need(90))
    waiting = [asyncio.create_task(holds.take(need(50))) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    holds.settle(first, NOTHING)  # grants the second, which is cancelled before it runs
    waiting[1].cancel()
    holds.settle(await waiting[2], NOTHING)
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    assert (holds.ledger.held, holds.ledger.holds) == (NOTHING, 0)


async def test_after_the_switch_only_the_roots_last_turn_is_granted() -> None:
    holds, stop = books(100)
    first = await holds.take(need(90))
    waiting = asyncio.create_task(holds.take(need(50)))
    await asyncio.sleep(0)
    stop.throw("seconds")
    for refused in (waiting, holds.take(need(1))):
        with pytest.raises(BudgetExceededError) as raised:
            await refused
        assert raised.value.limit == "seconds"
    last = asyncio.create_task(holds.take(Need(Amounts(1, 50), ROOT, final=True)))
    await asyncio.sleep(0)
    assert not last.done()  # the call under way may still cost what it holds
    holds.settle(first, Amounts(1, 20))
    assert (await last).worst.tokens == 50


async def test_a_bound_that_was_wrong_stops_the_run() -> None:
    holds, stop = books(100)
    holds.settle(await holds.take(need(10)), Amounts(1, 11))
    assert stop.limit == "tokens"


async def test_the_switch_ends_what_runs_and_leaves_other_cancellations_alone() -> None:
    stop = Stop()

    async def inside() -> None:
        with stop.interrupting():
            await asyncio.sleep(60)

    stopped, cancelled = asyncio.create_task(inside()), asyncio.create_task(inside())
    await asyncio.sleep(0)
    cancelled.cancel()
    stop.throw("usd")
    stop.throw("calls")
    assert stop.limit == "usd"  # the first reason is the one that counts
    with pytest.raises(Stopped):
        await stopped
    assert stopped.cancelling() == 0
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(Stopped):
        await inside()
