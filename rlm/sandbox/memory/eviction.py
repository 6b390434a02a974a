"""Eviction of REPLs under memory pressure, before the kernel's OOM killer chooses a process.

Every REPL can use memory up to its limit, and all limits together far exceed the machine. So while any cell runs, free
memory is checked, more often the less there is. Below the reserve, the largest REPLs are evicted with an error that gives
the reason, until a new one would be admitted. The kernel's OOM killer remains as a last resort and kills REPLs first, because
the zygote marks them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol

from rlm.sandbox.memory.admission import floor_mb, reserve_mb
from rlm.sandbox.memory.meter import Memory, count_oom_kills

GROWTH_MB_PER_S = 4096  # faster than two processors can fill memory
SHORTEST_S, LONGEST_S = 0.02, 1.0


class Evictable(Protocol):
    """A REPL that can be evicted."""

    def memory_mb(self) -> int:
        """Memory that its end would release."""
        ...

    @property
    def being_evicted(self) -> bool:
        """True while its process is being ended, until its memory is released."""
        ...

    def evict(self, held_mb: int) -> None:
        """Ends its process because the machine runs out of memory."""
        ...


def choose_victims(memory: Memory, held: Sequence[int], returning_mb: int = 0) -> list[int]:
    """Chooses the REPLs to evict, as indexes: the largest first, and no more than needed.

    Empty if memory suffices. Empty too if all REPLs together could not release enough, because then other processes hold it.
    """
    floor = floor_mb(memory)
    free = memory.free + returning_mb
    if free >= reserve_mb(memory) or sum(held) < floor:
        return []
    victims: list[int] = []
    for place in sorted(range(len(held)), key=held.__getitem__, reverse=True):
        if free >= floor:
            break
        victims.append(place)
        free += held[place]
    return victims


def next_check_s(memory: Memory) -> float:
    """The earliest time at which memory could be short."""
    return min(LONGEST_S, max(SHORTEST_S, (memory.free - reserve_mb(memory)) / GROWTH_MB_PER_S))


class MemoryWatch:
    """Checks memory while a cell of any REPL runs.

    Args:
        holders: the REPLs that can be evicted; the collection can change.
        read: reads the machine's free memory; None if it is unknown, which ends the checks.
        count_kills: reads the number of processes that the kernel killed for lack of memory.
    """

    def __init__(
        self,
        holders: Collection[Evictable],
        read: Callable[[], Memory | None],
        count_kills: Callable[[], int] = count_oom_kills,
    ) -> None:
        self._holders = holders
        self._read = read
        self._count_kills = count_kills
        self._kills: int | None = None
        self._cells = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def during_cell(self) -> Iterator[None]:
        self._cells += 1
        if self._timer is None:
            self._kills = None  # most cells end before the first check
            self._timer = asyncio.get_running_loop().call_later(SHORTEST_S, self._check)
        try:
            yield
        finally:
            self._cells -= 1
            if not self._cells:
                self._timer.cancel()
                self._timer = None

    def kernel_killed_first(self) -> bool:
        """True if the kernel killed processes for lack of memory since these cells started."""
        return self._kills is not None and self._count_kills() > self._kills

    def _check(self) -> None:
        if self._kills is None:
            self._kills = self._count_kills()
        memory = self._read()
        if memory is None:
            return
        if memory.free < reserve_mb(memory):
            self._evict_largest(memory)
        self._timer = asyncio.get_running_loop().call_later(next_check_s(memory), self._check)

    def _evict_largest(self, memory: Memory) -> None:
        holders = [holder for holder in self._holders if not holder.being_evicted]
        returning_mb = sum(holder.memory_mb() for holder in self._holders if holder.being_evicted)
        held = [holder.memory_mb() for holder in holders]
        for victim in choose_victims(memory, held, returning_mb):
            holders[victim].evict(held[victim])
