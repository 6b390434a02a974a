"""REPLs wait for memory, in virtual time, and for a limited time only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm.core.errors import SandboxUnavailableError
from rlm.sandbox.memory.admission import LEAST_MB, MOST_MB, WAIT_S, Admission, floor_mb, reserve_mb
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
    assert 0.2 < clock.now() < 1


def test_wait_ends_in_error_with_remedy() -> None:
    clock = VirtualClock()
    with pytest.raises(SandboxUnavailableError, match="fewer nodes"):
        clock.run(Admission(lambda: left(12)).wait_for_room())
    assert WAIT_S <= clock.now() < WAIT_S + 1


def test_reserve_grows_with_the_machine() -> None:
    reserves = [reserve_mb(Memory(0, total)) for total in (1_000, 4_000, 8_000, 24_000, 1_000_000)]
    assert reserves == [LEAST_MB, LEAST_MB, 400, MOST_MB, MOST_MB]
    assert all(floor_mb(Memory(0, total)) > reserve_mb(Memory(0, total)) for total in (100, 10_000, 1_000_000))
