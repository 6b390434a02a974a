"""Virtual time: long waits take no time, timers fire in order, and other threads still reach the loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from rlm.testing.clock import VirtualClock


def test_hours_pass_at_once_and_in_order() -> None:
    clock = VirtualClock(start_s=100.0)
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, clock.now()))

    async def main() -> None:
        await asyncio.gather(sleeper("late", 7200), sleeper("first", 3600), sleeper("second", 3600), sleeper("now", 0))

    started_s = time.monotonic()
    clock.run(main())
    assert time.monotonic() - started_s < 5
    assert woken == [("now", 100.0), ("first", 3700.0), ("second", 3700.0), ("late", 7300.0)]


def test_equal_deadlines_fire_in_the_order_set() -> None:
    woken: list[int] = []

    async def sleeper(number: int) -> None:
        await asyncio.sleep(1)
        woken.append(number)

    async def main() -> None:
        await asyncio.gather(*(sleeper(number) for number in range(100)))

    VirtualClock().run(main())
    assert woken == list(range(100))


def test_asyncio_timeouts_follow_virtual_time() -> None:
    clock = VirtualClock()

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(600):
                await asyncio.sleep(3600)
        await asyncio.sleep(5)
        assert asyncio.get_running_loop().time() == clock.now()
        return clock.now()

    assert clock.run(main()) == 605.0


def test_time_does_not_advance_while_callbacks_are_ready() -> None:
    clock = VirtualClock()

    async def main() -> tuple[int, float]:
        alarm = asyncio.ensure_future(asyncio.sleep(1))
        steps = 0
        for _ in range(10_000):
            await asyncio.sleep(0)
            steps += 1
            assert not alarm.done()
        await alarm
        return steps, clock.now()

    assert clock.run(main()) == (10_000, 1.0)


def test_cancelled_sleeper_leaves_the_others_alone() -> None:
    clock = VirtualClock()

    async def main() -> float:
        cancelled = asyncio.ensure_future(asyncio.sleep(5))
        other = asyncio.ensure_future(asyncio.sleep(5))
        await asyncio.sleep(1)
        cancelled.cancel()
        await other
        assert cancelled.cancelled()
        return clock.now()

    assert clock.run(main()) == 5.0


def test_threads_reach_a_loop_without_timers() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()
        timer = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(answer.set_result, "from outside"))
        timer.start()
        return await answer

    assert VirtualClock().run(main()) == "from outside"
