"""REPLs wait for memory, in virtual time, and for a limited time only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from rlm.core.errors import SandboxUnavailableError
from rlm.sandbox.memory.admission import (
    CHILD_WAIT_S,
    LEAST_MB,
    MOST_MB,
    NEW_MB,
    WAIT_S,
    Admission,
    floor_mb,
    reserve_mb,
)
from rlm.sandbox.memory.meter import Memory
from rlm.testing import VirtualClock


def left(free: int) -> Memory:
    return Memory(free, 4_000)


def test_room_if_memory_is_free_or_unknown() -> None:
    for memory in (left(floor_mb(left(0))), left(100_000), None):
        clock = VirtualClock()
        clock.run(Admission(lambda memory=memory: memory).wait_for_room())  # type: ignore[misc]
        assert clock.now() == 0


def test_waits_until_memory_is_free() -> None:
    readings: Iterator[int] = iter([10, 10, 10, 4_000])
    clock = VirtualClock()
    clock.run(Admission(lambda: left(next(readings))).wait_for_room())
    assert 0.1 < clock.now() < 1


def test_wait_ends_in_error_with_remedy() -> None:
    clock = VirtualClock()
    with pytest.raises(SandboxUnavailableError, match="fewer nodes"):
        clock.run(Admission(lambda: left(12)).wait_for_room())
    assert WAIT_S <= clock.now() < WAIT_S + 1


def test_reserve_grows_with_the_machine() -> None:
    reserves = [reserve_mb(Memory(0, total)) for total in (1_000, 4_000, 8_000, 24_000, 1_000_000)]
    assert reserves == [LEAST_MB, LEAST_MB, 400, MOST_MB, MOST_MB]
    assert all(floor_mb(Memory(0, total)) > reserve_mb(Memory(0, total)) for total in (100, 10_000, 1_000_000))


def test_root_waits_while_another_repl_is_open() -> None:
    free = 10

    async def busy() -> None:
        nonlocal free
        admission = Admission(lambda: left(4_000 if clock.now() == 0 else free))
        await admission.wait_for_room()
        admission.started()
        await asyncio.sleep(1)
        waiting = asyncio.create_task(admission.wait_for_room())
        await asyncio.sleep(10 * CHILD_WAIT_S)
        assert not waiting.done()
        free = 4_000
        admission.closed()
        await waiting

    clock = VirtualClock()
    clock.run(busy())
    assert 10 * CHILD_WAIT_S <= clock.now() < 10 * CHILD_WAIT_S + 2


def test_child_gives_up_when_nothing_changes() -> None:
    async def stuck() -> None:
        admission = Admission(lambda: left(4_000 if clock.now() == 0 else 10))
        await admission.wait_for_room()
        await asyncio.sleep(1)
        await admission.wait_for_room(depth=1)

    clock = VirtualClock()
    with pytest.raises(SandboxUnavailableError, match="fewer nodes"):
        clock.run(stuck())
    assert CHILD_WAIT_S <= clock.now() < CHILD_WAIT_S + 2


def test_roots_leave_memory_to_children() -> None:
    async def crowded() -> None:
        admission = Admission(lambda: left(floor_mb(left(0))))
        await admission.wait_for_room()  # the first root
        admission.started()
        second = asyncio.create_task(admission.wait_for_room())
        await asyncio.sleep(1)
        await admission.wait_for_room(depth=1)
        assert not second.done()
        second.cancel()

    VirtualClock().run(crowded())


def test_queue_opens_deeper_repls_first_and_reports_places() -> None:
    free, order = 10, list[str]()
    places: dict[str, list[int]] = {}

    async def wait(admission: Admission, name: str, depth: int) -> None:
        await admission.wait_for_room(depth, places.setdefault(name, []).append)
        order.append(name)

    async def crowded() -> None:
        nonlocal free
        admission = Admission(lambda: left(free))
        async with asyncio.TaskGroup() as tasks:
            for name, depth in (("a", 0), ("b", 0), ("c", 0), ("deep", 1), ("d", 0)):
                tasks.create_task(wait(admission, name, depth))
                await asyncio.sleep(0)
            cancelled = tasks.create_task(wait(admission, "cancelled", 0))
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.sleep(1)
            free = 4_000

    VirtualClock().run(crowded())
    assert order == ["deep", "a", "b", "c", "d"]
    assert places["deep"] == [1]
    assert places["a"] == [1]
    assert places["d"] == [5, 2, 1]


def test_admitted_repls_count_before_they_start() -> None:
    async def burst() -> int:
        admission = Admission(lambda: left(2 * floor_mb(left(0)) + 10 * NEW_MB))
        tasks = [asyncio.create_task(admission.wait_for_room()) for _ in range(100)]
        await asyncio.sleep(1)
        admitted = sum(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        return admitted

    assert VirtualClock().run(burst()) == 11
