"""Slots: limits hold, runs and nodes take turns, outages pause the lane, and cancelled waiters lose nothing."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from rlm.core.errors import RateLimitedError
from rlm.core.ids import NodeId
from rlm.scheduler.slots import Lane, LaneUser
from rlm.testing import VirtualClock

A, B = NodeId("0"), NodeId("0/1.1.1")


REFUSED = RateLimitedError("slow down", status=429)


def lane_of(slots: int) -> tuple[Lane, LaneUser]:
    lane = Lane(slots)
    return lane, lane.join(None)


async def hold(lane: Lane, user: LaneUser, node: NodeId = A, seconds: float = 1.0) -> float:
    """Hold a slot for some time. Returns the time at which it was granted."""
    await lane.acquire(user, node)
    granted_at = asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    lane.release(user)
    return granted_at


def refuse(lane: Lane, user: LaneUser, pause_s: float = 0.0) -> None:
    """Report a refusal of a call in flight, and return its slot."""
    lane.refused(lane.in_flight, lane.limit.successes, REFUSED, pause_s)
    lane.release(user)


def test_slots_are_all_used_and_never_exceeded() -> None:
    lane, user = lane_of(8)

    async def main() -> list[float]:
        return await asyncio.gather(*(hold(lane, user) for _ in range(80)))

    granted = VirtualClock().run(main())
    assert [granted.count(float(second)) for second in range(10)] == [8] * 10
    assert lane.in_flight == 0


def test_single_call_does_not_wait_behind_a_batch() -> None:
    lane, user = lane_of(10)

    async def main() -> tuple[float, list[float]]:
        batch = asyncio.gather(*(hold(lane, user) for _ in range(1_000)))
        await asyncio.sleep(0.5)
        return await hold(lane, user, B), await batch

    single, batch = VirtualClock().run(main())
    assert single == 1.0
    assert max(batch) > 90


def test_small_run_does_not_wait_behind_many_nodes() -> None:
    lane, large = lane_of(10)
    small = lane.join(None)

    async def main() -> list[float]:
        nodes = [NodeId(f"0/1.1.{number}") for number in range(100)]
        batch = asyncio.gather(*(hold(lane, large, node) for node in nodes for _ in range(10)))
        await asyncio.sleep(0.5)
        granted = await asyncio.gather(*(hold(lane, small) for _ in range(10)))
        await batch
        return granted

    assert VirtualClock().run(main()) == [1.0] * 5 + [2.0] * 5


def test_calls_of_a_node_are_served_in_order() -> None:
    lane, user = lane_of(1)

    async def main() -> list[float]:
        return await asyncio.gather(*(hold(lane, user) for _ in range(5)))

    assert VirtualClock().run(main()) == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_runs_of_equal_concurrency_share_it() -> None:
    lane = Lane()
    users = [lane.join(2), lane.join(2)]

    async def main() -> list[float]:
        return await asyncio.gather(*(hold(lane, user) for user in users for _ in range(4)))

    assert sorted(VirtualClock().run(main())) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_full_share_does_not_hold_back_other_runs() -> None:
    lane = Lane()
    narrow, wide = lane.join(1), lane.join(None)

    async def main() -> list[float]:
        slow = asyncio.gather(*(hold(lane, narrow) for _ in range(5)))
        granted = await asyncio.gather(*(hold(lane, wide) for _ in range(20)))
        assert await slow == [0, 1, 2, 3, 4]
        return granted

    assert VirtualClock().run(main()) == [0.0] * 20


def test_pause_holds_no_slot_and_covers_waiting_calls() -> None:
    lane, user = lane_of(1)

    async def main() -> list[float]:
        await lane.acquire(user, A)
        waiting = asyncio.gather(*(hold(lane, user) for _ in range(2)))
        await asyncio.sleep(1)
        refuse(lane, user, pause_s=19)
        await asyncio.sleep(1)
        assert lane.in_flight == 0
        return await waiting

    assert VirtualClock().run(main()) == [20.0, 21.0]


def test_longer_pause_extends_a_shorter_one() -> None:
    lane, user = lane_of(2)

    async def main() -> float:
        for _ in range(2):
            await lane.acquire(user, A)
        refuse(lane, user, pause_s=5)
        waiting = asyncio.create_task(hold(lane, user))
        await asyncio.sleep(1)
        refuse(lane, user, pause_s=9)
        return await waiting

    assert VirtualClock().run(main()) == 10.0


def test_outage_sends_one_probe_at_a_time() -> None:
    """All calls in flight are refused: the lane pauses longer after every failed probe."""
    lane, user = lane_of(128)
    sent: list[float] = []

    async def call(number: int) -> None:
        await asyncio.sleep(number / 1000)
        while True:
            await lane.acquire(user, A)
            now = asyncio.get_running_loop().time()
            sent.append(now)
            level, successes = lane.in_flight, lane.limit.successes
            await asyncio.sleep(0.2)
            if now > 20:
                lane.succeeded(level, successes)
                lane.release(user)
                return
            lane.refused(level, successes, REFUSED, 0.0)
            lane.release(user)

    async def main() -> float:
        await asyncio.gather(*(call(number) for number in range(64)))
        return asyncio.get_running_loop().time()

    ended = VirtualClock().run(main())
    first, probes = [at for at in sent if at < 0.2], [at for at in sent if 1 < at < 20]
    assert len(first) == 64
    assert 3 <= len(probes) <= 6
    assert min(later - at for at, later in pairwise(probes)) > 1
    assert ended < 27


def test_waiting_calls_give_up_after_a_long_outage() -> None:
    lane = Lane(3)
    user, patient = lane.join(None, retry_seconds=10), lane.join(None, retry_seconds=1_000)

    async def main() -> list[BaseException | float]:
        for _ in range(3):
            await lane.acquire(user, A)
        waiting = asyncio.gather(*(hold(lane, user) for _ in range(5)), return_exceptions=True)
        staying = asyncio.create_task(hold(lane, patient))
        for _ in range(2):
            refuse(lane, user)
        await asyncio.sleep(9)
        lane.limit.refused_in_row = 5
        refuse(lane, user, pause_s=2)
        failed = await waiting
        assert await staying == 11
        return failed

    failed = VirtualClock().run(main())
    assert [type(error) for error in failed] == [RateLimitedError] * 5


async def test_cancelled_waiter_passes_its_slot_on() -> None:
    lane, user = lane_of(1)
    await lane.acquire(user, A)
    first, second = (asyncio.create_task(lane.acquire(user, A)) for _ in range(2))
    await asyncio.sleep(0)
    lane.release(user)  # grants the slot to the first, which is cancelled before it can use it
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (lane.in_flight, user.share.in_flight) == (1, 1)


def test_cancellation_during_a_pause_takes_no_slot() -> None:
    lane, user = lane_of(1)

    async def main() -> None:
        await lane.acquire(user, A)
        refuse(lane, user, pause_s=20)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lane.acquire(user, A), 5)
        assert lane.in_flight == 0
        assert await hold(lane, user) == 20

    VirtualClock().run(main())
