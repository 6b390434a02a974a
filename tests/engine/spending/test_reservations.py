"""Budget reservations: calls wait in order while calls in flight can free enough, and are refused as soon as none can."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.budget import Amounts, Budget
from rlm.core.errors import BudgetExceededError
from rlm.core.ids import ROOT, NodeId
from rlm.core.ledger import NOTHING, Ledger, Need
from rlm.engine.spending.reservations import Reservations
from rlm.engine.spending.stop import Stop


def need(tokens: int) -> Need:
    return Need(Amounts(1, tokens))


def budget_of(tokens: int) -> tuple[Reservations, Stop]:
    stop = Stop()
    return Reservations(Ledger(Budget(tokens=tokens)), stop), stop


async def test_waiting_calls_are_served_in_order() -> None:
    reservations, _ = budget_of(100)
    first = await reservations.reserve(need(90))
    served: list[int] = []

    async def wait(tokens: int) -> None:
        hold = await reservations.reserve(need(tokens))
        served.append(tokens)
        reservations.settle(hold, Amounts(1, 1))

    waiting = [asyncio.create_task(wait(tokens)) for tokens in (50, 5, 40)]
    await asyncio.sleep(0)
    assert served == []  # the small one does not overtake
    reservations.settle(first, Amounts(1, 10))
    await asyncio.gather(*waiting)
    assert served == [50, 5, 40]
    assert (reservations.ledger.held, reservations.ledger.spent.tokens) == (NOTHING, 13)


async def test_hopeless_waiting_call_is_refused() -> None:
    reservations, _ = budget_of(100)
    first = await reservations.reserve(need(60))
    waiting = asyncio.create_task(reservations.reserve(need(50)))
    await asyncio.sleep(0)
    reservations.settle(first, Amounts(1, 60))
    with pytest.raises(BudgetExceededError, match="needs up to 50 tokens, and 40 tokens is left"):
        await waiting
    with pytest.raises(BudgetExceededError):
        await reservations.reserve(need(41))
    assert reservations.refused["tokens"] == 2


async def test_refused_turns_do_not_count_as_refused_calls() -> None:
    reservations, _ = budget_of(100)
    for refused in (need(101), Need(Amounts(1, 101), ROOT), Need(Amounts(1, 101), ahead=True)):
        with pytest.raises(BudgetExceededError):
            await reservations.reserve(refused)
    assert reservations.refused["tokens"] == 2
    assert reservations.refused_calls == 1


async def test_cancelled_waiter_leaves_nothing_behind() -> None:
    reservations, _ = budget_of(100)
    first = await reservations.reserve(need(90))
    waiting = [asyncio.create_task(reservations.reserve(need(50))) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    reservations.settle(first, NOTHING)  # grants the second, which is cancelled before it runs
    waiting[1].cancel()
    reservations.settle(await waiting[2], NOTHING)
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    assert (reservations.ledger.held, reservations.ledger.holds) == (NOTHING, 0)


async def test_cancelled_large_call_lets_a_small_one_pass() -> None:
    reservations, _ = budget_of(100)
    first = await reservations.reserve(need(60))
    large = asyncio.create_task(reservations.reserve(need(90)))
    small = asyncio.create_task(reservations.reserve(need(40)))
    await asyncio.sleep(0)
    assert not small.done()
    large.cancel()
    assert (await small).worst.tokens == 40
    reservations.settle(first, NOTHING)


async def test_smaller_retained_amount_admits_a_waiting_call() -> None:
    reservations, _ = budget_of(100)
    node = NodeId("0/1.1.1")
    turn = await reservations.reserve(Need(Amounts(1, 10), node, Amounts(1, 50)))
    waiting = asyncio.create_task(reservations.reserve(need(60)))
    await asyncio.sleep(0)
    # Refused at once: what is retained does not settle.
    with pytest.raises(BudgetExceededError):
        await waiting
    waiting = asyncio.create_task(reservations.reserve(need(45)))
    await asyncio.sleep(0)
    assert not waiting.done()
    reservations.retain_for_last_turn(node, Amounts(1, 20))
    assert (await waiting).worst.tokens == 45
    reservations.settle(turn, Amounts(1, 10))
    reservations.retain_for_last_turn(node, NOTHING)
    assert reservations.ledger.kept == NOTHING


async def test_last_turn_may_use_its_own_retained_amount() -> None:
    reservations, _ = budget_of(100)
    turn = await reservations.reserve(Need(Amounts(1, 40), ROOT, Amounts(1, 50)))
    reservations.settle(turn, Amounts(1, 40))
    with pytest.raises(BudgetExceededError):
        await reservations.reserve(need(20))
    assert (await reservations.reserve(Need(Amounts(1, 50), ROOT))).worst.tokens == 50


async def test_stop_refuses_everything_but_the_last_root_turn() -> None:
    reservations, stop = budget_of(100)
    first = await reservations.reserve(need(90))
    waiting = asyncio.create_task(reservations.reserve(need(50)))
    await asyncio.sleep(0)
    stop.trigger("seconds")
    for refused in (waiting, reservations.reserve(need(1))):
        with pytest.raises(BudgetExceededError, match="time limit is close") as raised:
            await refused
        assert raised.value.limit == "seconds"
    last = asyncio.create_task(reservations.reserve(Need(Amounts(1, 50), ROOT, final=True)))
    await asyncio.sleep(0)
    assert not last.done()  # the call in flight can still cost its whole reservation
    reservations.settle(first, Amounts(1, 20))
    assert (await last).worst.tokens == 50


async def test_final_turn_goes_before_waiting_calls() -> None:
    reservations, _ = budget_of(100)
    first = await reservations.reserve(need(90))
    order: list[str] = []

    async def wait(name: str, asked: Need) -> None:
        await reservations.reserve(asked)
        order.append(name)

    tasks = [asyncio.create_task(wait("leaf", need(20)))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(wait("final", Need(Amounts(1, 60), ROOT, final=True))))
    await asyncio.sleep(0)
    reservations.settle(first, Amounts(1, 1))
    await asyncio.gather(*tasks)
    assert order == ["final", "leaf"]


async def test_cost_above_its_reservation_stops_the_run() -> None:
    reservations, stop = budget_of(100)
    reservations.settle(await reservations.reserve(need(10)), Amounts(1, 11))
    assert stop.limit == "tokens"
