"""REPLs wait for memory, in virtual time, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rlm.core.errors import SandboxUnavailableError
from rlm.sandbox.admission import FLOOR_MB, WAIT_S, Admission, available_mb
from rlm.testing import VirtualClock


def test_there_is_room_where_memory_is_free_or_unknown() -> None:
    for free in (FLOOR_MB, 100_000, None):
        clock = VirtualClock()
        clock.run(Admission(clock, lambda free=free: free).enter())  # type: ignore[misc]
        assert clock.now() == 0


def test_the_next_one_waits_until_memory_is_free_again() -> None:
    readings: Iterator[int] = iter([10, 10, 10, 4_000])
    clock = VirtualClock()
    clock.run(Admission(clock, lambda: next(readings)).enter())
    assert 0.2 < clock.now() < 1


def test_the_wait_ends_in_an_error_that_says_what_to_do() -> None:
    clock = VirtualClock()
    with pytest.raises(SandboxUnavailableError, match="fewer nodes"):
        clock.run(Admission(clock, lambda: 12).enter())
    assert WAIT_S <= clock.now() < WAIT_S + 1


def test_this_machine_tells_what_is_free() -> None:
    free = available_mb()
    assert free is None or free > 0
