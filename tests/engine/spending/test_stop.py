"""The stop switch and the deadline that triggers it, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from rlm.engine.spending.stop import CELL_STOP_S, LEAD_FACTOR, Deadline, Stop, Stopped
from rlm.testing import VirtualClock


async def test_switch_ends_its_bodies_and_no_other_cancellation() -> None:
    stop = Stop()

    async def inside() -> None:
        with stop.interrupting():
            await asyncio.sleep(60)

    stopped, cancelled = asyncio.create_task(inside()), asyncio.create_task(inside())
    await asyncio.sleep(0)
    cancelled.cancel()
    stop.trigger("usd")
    stop.trigger("calls")
    assert stop.limit == "usd"  # only the first reason counts
    with pytest.raises(Stopped):
        await stopped
    assert stopped.cancelling() == 0
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(Stopped):
        await inside()


async def test_callbacks_receive_the_limit_once() -> None:
    stop, limits = Stop(), list[str]()
    stop.on_stop(limits.append)
    stop.trigger("usd")
    stop.trigger("calls")
    await stop.wait()
    assert limits == ["usd"]


def stopped_at(seconds: float, turns_s: list[float]) -> float:
    """Time at which the deadline of a run with these turns triggers the switch."""
    clock = VirtualClock()

    async def main() -> float:
        stop = Stop()
        deadline = Deadline(stop, seconds)
        deadline.start()
        for turn_s in turns_s:
            await asyncio.sleep(turn_s)
            deadline.record_turn(turn_s)
        await stop.wait()
        assert stop.limit == "seconds"
        assert deadline.left_s == pytest.approx(seconds - clock.now())
        return clock.now()

    return clock.run(main())


def test_short_limits_leave_most_of_their_time() -> None:
    assert stopped_at(4.0, [0.02]) == pytest.approx(4.0 - 0.8 - LEAD_FACTOR * 0.02)
    assert stopped_at(1.0, [0.02]) == pytest.approx(1.0 - 0.2 - LEAD_FACTOR * 0.02)


@pytest.mark.parametrize(
    ("turns_s", "lead_s"),
    [
        pytest.param([], CELL_STOP_S + 25.0, id="no turn yet: a quarter of the time"),
        pytest.param([2.0], CELL_STOP_S + LEAD_FACTOR * 2.0, id="one turn"),
        pytest.param([10.0, 1.0], CELL_STOP_S + LEAD_FACTOR * 10.0, id="the longest turn counts"),
        pytest.param([40.0], 50.0, id="never more than half of the time"),
    ],
)
def test_switch_leaves_time_for_the_last_turn(turns_s: list[float], lead_s: float) -> None:
    assert stopped_at(100.0, turns_s) == pytest.approx(100.0 - lead_s)


def test_ended_deadline_does_not_trigger() -> None:
    async def main() -> str | None:
        stop = Stop()
        deadline = Deadline(stop, 10.0)
        deadline.start()
        deadline.end()
        await asyncio.sleep(20)
        return stop.limit

    assert VirtualClock().run(main()) is None
