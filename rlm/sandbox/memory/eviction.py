"""Memory that runs out while cells run: who holds most is ended, before the system ends a process of its choice.

Every REPL may take up to its limit, and all limits together are far more than the machine has. So while any cell runs, what is
free is looked at, the more often the less there is. Where it falls below the reserve, the largest REPLs are ended, with an error
that says why, until there would be room for a new one. The system's own way out of memory remains behind this, and takes REPLs
first too (the zygote marks them).
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
    """A REPL, as far as it matters here."""

    def memory_mb(self) -> int:
        """What its end would give back."""
        ...

    @property
    def being_evicted(self) -> bool:
        """Whether it is being ended: what it still holds is on its way back."""
        ...

    def evict(self, held_mb: int) -> None:
        """Ends its process, because the machine runs out of memory."""
        ...


def choose_victims(memory: Memory, held: Sequence[int], returning_mb: int = 0) -> list[int]:
    """Which of the holders have to go, by their places: the largest first, and no more than are needed.

    None where memory is left, and none where all together would not give back what is needed: then others are to blame.
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
    """When memory could be short at the earliest."""
    return min(LONGEST_S, max(SHORTEST_S, (memory.free - reserve_mb(memory)) / GROWTH_MB_PER_S))


class MemoryWatch:
    """Watches over the holders while a cell of any of them runs.

    Args:
        holders: whoever may have to go; the collection may change.
        read: what is left of the machine's memory; None where that is unknown, now and for ever.
        count_kills: how many processes the system itself has ended for want of memory.
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
            self._kills = None  # most cells end before the first look
            self._timer = asyncio.get_running_loop().call_later(SHORTEST_S, self._check)
        try:
            yield
        finally:
            self._cells -= 1
            if not self._cells:
                self._timer.cancel()
                self._timer = None

    def kernel_killed_first(self) -> bool:
        """Whether the system has ended processes since these cells began."""
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
