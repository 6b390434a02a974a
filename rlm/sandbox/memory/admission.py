"""Admission of new REPLs by the memory that is free now, not by the sum of all limits.

A REPL of 3 MB has a limit of gigabytes, so a sum of limits would admit a dozen on a machine that fits thousands. The growth
of open REPLs is not considered here: ``eviction`` ends the largest before the machine runs out of memory.

While memory is short, new REPLs wait in a queue. Those of deeper nodes come first, because REPLs of other nodes can wait for
them. Roots leave the last free memory to child nodes. A root waits as long as any REPL is open, and a child for a limited time.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections.abc import Callable
from dataclasses import field
from itertools import count

from rlm.core.errors import SandboxUnavailableError
from rlm.core.values import slotted
from rlm.descriptors import are_scarce
from rlm.sandbox.memory.meter import Memory

# Memory left for the host and everything beside it: a share of the machine between two bounds. With less, the system is
# busy reading back program pages that it dropped. It kills processes before it reports no free memory (seen with 2 GB).
SHARE = 0.05
LEAST_MB, MOST_MB = 256, 768
WAIT_S = 30.0  # without any other REPL of this process, whose end could help
CHILD_WAIT_S = 300.0  # without the start or the end of any REPL: all of them could wait for this one
POLL_S = 0.1
DESCRIPTORS = 16  # socket, process, input and fork gate of a REPL, with some left for files
NEW_MB = 8  # of a REPL that was admitted and has not started, so that the memory that is free does not show it yet
ROOT_SHARE = 2  # times the memory and descriptors that a child needs, so that children of open roots have room


def reserve_mb(memory: Memory) -> int:
    """Free memory below which REPLs are evicted."""
    return int(min(MOST_MB, max(LEAST_MB, memory.total * SHARE)))


def floor_mb(memory: Memory) -> int:
    """Free memory below which no REPL is opened. It exceeds the reserve, so that a new REPL is not evicted at once."""
    return reserve_mb(memory) * 3 // 2


OnQueued = Callable[[int], None]
"""Called with the place of a REPL in the queue, from 1: when it starts to wait, and when half of those before it are gone."""


@slotted
class _Waiting:
    """A REPL in the queue."""

    depth: int
    number: int
    since_s: float
    on_queued: OnQueued | None
    reported: int = 0
    turn: asyncio.Event = field(default_factory=asyncio.Event)

    def __lt__(self, other: _Waiting) -> bool:
        return (-self.depth, self.number) < (-other.depth, other.number)

    def report(self, place: int) -> None:
        if self.on_queued is not None and (not self.reported or place <= self.reported // 2):
            self.reported = place
            self.on_queued(place)


class Admission:
    """The queue of new REPLs. ``read`` returns the machine's free memory, or None if it is unknown."""

    def __init__(self, read: Callable[[], Memory | None]) -> None:
        self._read = read
        self._queue: list[_Waiting] = []
        self._numbers = count()
        self._open = 0
        self._admitted = 0  # of them, those that have not started
        self._changed_s = 0.0  # the time of the last start or end of a REPL

    def started(self) -> None:
        """Notes that an admitted REPL has started, or failed to: its memory can be measured."""
        self._admitted -= 1
        self._wake_first()

    def closed(self) -> None:
        """Counts the end of an admitted REPL, and lets the next one look for room."""
        self._count(-1)
        self._wake_first()

    def _count(self, change: int) -> None:
        self._open += change
        self._changed_s = asyncio.get_running_loop().time()

    async def wait_for_room(self, depth: int = 0, on_queued: OnQueued | None = None) -> None:
        """Waits until there is memory for one more REPL, and file descriptors. Match it by ``started`` and ``closed``.

        Raises:
            SandboxUnavailableError: one of them stayed short, and no other REPL of this process can release it.
        """
        if self._queue or self._shortage(depth):
            await self._wait_in_queue(depth, on_queued)
        self._admitted += 1
        self._count(1)

    async def _wait_in_queue(self, depth: int, on_queued: OnQueued | None) -> None:
        waiting = _Waiting(depth, next(self._numbers), asyncio.get_running_loop().time(), on_queued)
        insort(self._queue, waiting)
        waiting.report(self._queue.index(waiting) + 1)
        try:
            await self._wait_in_turn(waiting)
        finally:
            self._queue.remove(waiting)
            for place, other in enumerate(self._queue, 1):
                other.report(place)
            self._wake_first()

    async def _wait_in_turn(self, waiting: _Waiting) -> None:
        while True:
            waiting.turn.clear()
            is_first = self._queue[0] is waiting
            if is_first:
                shortage = self._shortage(waiting.depth)
                if not shortage:
                    return
                if self._is_hopeless(waiting):
                    raise SandboxUnavailableError(shortage)
            try:
                async with asyncio.timeout(POLL_S if is_first else None):
                    await waiting.turn.wait()
            except TimeoutError:
                pass

    def _wake_first(self) -> None:
        if self._queue:
            self._queue[0].turn.set()

    def _is_hopeless(self, waiting: _Waiting) -> bool:
        """True if nothing has changed for so long that nothing is expected to change."""
        quiet_s = asyncio.get_running_loop().time() - max(waiting.since_s, self._changed_s)
        if not self._open:
            return quiet_s >= WAIT_S
        return waiting.depth > 0 and quiet_s >= CHILD_WAIT_S

    def _shortage(self, depth: int) -> str:
        """The shortage that a REPL of this depth meets, and the remedy; empty if there is none."""
        share = ROOT_SHARE if depth == 0 and self._open else 1
        if are_scarce(DESCRIPTORS * share):
            return (
                f"this process has almost no file descriptors left; a REPL needs up to {DESCRIPTORS}. "
                "Raise the limit (ulimit -n), or run fewer nodes at once."
            )
        memory = self._read()
        if memory is None or memory.free - self._admitted * NEW_MB >= share * floor_mb(memory):
            return ""
        return (
            f"only {memory.free} MiB of memory are free on this machine; a REPL needs at least {floor_mb(memory)} MiB. "
            "Run fewer nodes at once, or give cells less memory with memory_mb."
        )
