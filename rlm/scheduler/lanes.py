"""A lane: the calls of one run to one model, at most so many at a time, fair between nodes.

The limit adapts. It starts at the ceiling, halves when the provider pushes back (429, 503, timeouts), at most once for all
calls that were in flight together, and grows with every full round of successes. Knows nothing of requests or retries.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from rlm.core.ids import NodeId

GROWTH = 1 / 32  # of the ceiling, for each round of successes, and at least one: a halved limit is back after 16 rounds


class FairQueue:
    """Waiting calls, served in turn by node and in order within a node: a batch of 1,000 cannot starve its sibling's one."""

    def __init__(self) -> None:
        self._by_node: OrderedDict[NodeId, deque[asyncio.Future[None]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._by_node)

    def push(self, node: NodeId) -> asyncio.Future[None]:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._by_node.setdefault(node, deque()).append(waiting)
        return waiting

    def pop(self) -> asyncio.Future[None]:
        node, queue = next(iter(self._by_node.items()))
        waiting = queue.popleft()
        del self._by_node[node]
        if queue:
            self._by_node[node] = queue  # to the end: the other nodes come first
        return waiting


class Lane:
    """Slots for one model.

    Attributes:
        limit: how many calls may be in flight now; the whole part counts.
        in_flight: how many are.
        paused_until: no call leaves before this time of the clock (Retry-After).
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(ceiling)
        self.in_flight = 0
        self.paused_until = 0.0
        self._waiting = FairQueue()
        self._round = 0  # counts cuts: a failure of a call sent before the last cut does not cut again

    async def acquire(self, node: NodeId) -> int:
        """Waits for a slot; returns the round, to be handed back with the outcome."""
        if self.in_flight >= int(self.limit) or self._waiting:
            waiting = self._waiting.push(node)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self.release()  # the slot had been granted just before
                raise
        else:
            self.in_flight += 1
        return self._round

    def release(self) -> None:
        """Gives a slot back and wakes whoever may go."""
        self.in_flight -= 1
        self._wake()

    def succeeded(self) -> None:
        if self.limit < self.ceiling:
            self.limit = min(float(self.ceiling), self.limit + max(1.0, self.ceiling * GROWTH) / self.limit)

    def pushed_back(self, sent_in_round: int, paused_until: float) -> None:
        """The provider asked for less: halve once for each round, and wait where it said how long."""
        self.paused_until = max(self.paused_until, paused_until)
        if sent_in_round == self._round:
            self._round += 1
            self.limit = max(1.0, self.limit / 2)

    def _wake(self) -> None:
        while self._waiting and self.in_flight < int(self.limit):
            waiting = self._waiting.pop()
            if not waiting.done():  # else its caller was cancelled meanwhile
                self.in_flight += 1
                waiting.set_result(None)
