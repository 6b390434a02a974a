"""Lanes of slots: the limit holds, nodes take turns, push-back halves it, and cancelled waiters lose nothing."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.ids import NodeId
from rlm.scheduler.slots import Lane
from rlm.testing import VirtualClock

A, B = NodeId("0"), NodeId("0/1.1.1")


async def hold(lane: Lane, node: NodeId, seconds: float = 1.0) -> float:
    """Hold a slot for some time. Returns the time at which it was granted."""
    await lane.acquire(node)
    granted_at = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    lane.release()
    return granted_at


def test_slots_are_all_used_and_never_exceeded() -> None:
    clock, lane = VirtualClock(), Lane(8)

    async def main() -> list[float]:
        return await asyncio.gather(*(hold(lane, A) for _ in range(80)))

    granted = clock.run(main())
    assert [granted.count(float(second)) for second in range(10)] == [8] * 10
    assert lane.in_flight == 0


def test_single_call_does_not_wait_behind_a_batch() -> None:
    lane = Lane(10)

    async def main() -> tuple[float, list[float]]:
        batch = asyncio.gather(*(hold(lane, A) for _ in range(1_000)))
        await asyncio.sleep(0.5)
        return await hold(lane, B), await batch

    single, batch = VirtualClock().run(main())
    assert single == 1.0
    assert max(batch) > 90


def test_calls_of_a_node_are_served_in_order() -> None:
    lane = Lane(1)

    async def main() -> list[float]:
        return await asyncio.gather(*(hold(lane, A) for _ in range(5)))

    assert VirtualClock().run(main()) == [0.0, 1.0, 2.0, 3.0, 4.0]


async def test_limit_halves_once_for_calls_in_flight_together() -> None:
    lane = Lane(64)
    sent = [await lane.acquire(A) for _ in range(64)]
    for cuts in sent:
        lane.pushed_back(cuts, 0.0)
        lane.release()
    assert lane.limit == 32
    lane.pushed_back(await lane.acquire(A), 0.0)
    assert lane.limit == 16


async def test_limit_recovers_with_successes() -> None:
    lane = Lane(64)
    lane.pushed_back(await lane.acquire(A), 0.0)
    successes = 0
    while lane.limit < 64:
        lane.succeeded()
        successes += 1
    assert 16 * 32 < successes < 16 * 64
    lane.succeeded()
    assert lane.limit == 64


async def test_limit_never_falls_below_one() -> None:
    lane = Lane(4)
    for _ in range(5):
        lane.pushed_back(await lane.acquire(A), 0.0)
        lane.release()
    assert lane.limit == 1


def test_lowered_limit_holds_back_waiting_calls() -> None:
    lane = Lane(4)

    async def main() -> list[float]:
        sent = [await lane.acquire(A) for _ in range(4)]
        waiting = asyncio.gather(*(hold(lane, A) for _ in range(2)))
        await asyncio.sleep(1)
        lane.pushed_back(sent[0], 0.0)
        for _ in range(2):
            lane.release()
        await asyncio.sleep(1)
        assert lane.in_flight == 2
        lane.release()
        await asyncio.sleep(5)
        lane.release()
        return await waiting

    assert VirtualClock().run(main()) == [2.0, 3.0]


def test_pause_holds_no_slot_and_covers_waiting_calls() -> None:
    lane = Lane(1)

    async def main() -> list[float]:
        cuts = await lane.acquire(A)
        waiting = asyncio.gather(*(hold(lane, A) for _ in range(2)))
        await asyncio.sleep(1)
        lane.pushed_back(cuts, 20.0)
        lane.release()
        await asyncio.sleep(1)
        assert lane.in_flight == 0
        return await waiting

    assert VirtualClock().run(main()) == [20.0, 21.0]


async def test_cancelled_waiter_passes_its_slot_on() -> None:
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


def test_cancellation_during_a_pause_takes_no_slot() -> None:
    lane = Lane(1)

    async def main() -> None:
        lane.pushed_back(await lane.acquire(A), 20.0)
        lane.release()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lane.acquire(A), 5)
        assert lane.in_flight == 0

    VirtualClock().run(main())
