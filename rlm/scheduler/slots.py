"""Slots: the number of calls in flight to one model, shared fairly between nodes.

The limit of a lane adapts. It starts at the ceiling and halves when the provider pushes back (429, 503, timeouts). All calls that
were in flight together halve it once. Every full round of successes raises it again. Requests and retries are unknown here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from rlm.core.ids import NodeId

RECOVERY_SHARE = 1 / 32  # of the ceiling, for each round of successes: a halved limit is back after 16 rounds


class FairQueue:
    """Waiting calls, served round-robin by node and first-come within a node. A batch of 1,000 cannot starve a sibling's call."""

    def __init__(self) -> None:
        self._by_node: OrderedDict[NodeId, deque[asyncio.Future[None]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._by_node)

    def push(self, node: NodeId) -> asyncio.Future[None]:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._by_node.setdefault(node, deque()).append(waiter)
        return waiter

    def pop(self) -> asyncio.Future[None]:
        node, queue = next(iter(self._by_node.items()))
        waiter = queue.popleft()
        del self._by_node[node]
        if queue:
            self._by_node[node] = queue  # to the end: the other nodes come first
        return waiter


class Lane:
    """The slots of one model.

    Attributes:
        limit: calls that can be in flight now. The integer part counts.
        in_flight: calls that hold a slot.
        paused_until: the loop time before which no call is sent (Retry-After).
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.limit = float(ceiling)
        self.in_flight = 0
        self.paused_until = 0.0
        self._queue = FairQueue()
        self._cuts = 0  # a failure of a call that was sent before the last cut does not cut again

    async def acquire(self, node: NodeId) -> int:
        """Wait for a slot in a lane that is not paused.

        Returns the number of cuts so far, which ``pushed_back`` expects. A call holds no slot while it waits for a pause to end.
        """
        time = asyncio.get_running_loop().time
        while True:
            if (pause_s := self.paused_until - time()) > 0:
                await asyncio.sleep(pause_s)
            if self.in_flight < int(self.limit) and not self._queue:
                self.in_flight += 1
            else:
                waiter = self._queue.push(node)
                try:
                    await waiter
                except asyncio.CancelledError:
                    if waiter.done() and not waiter.cancelled():
                        self.release()  # the slot was granted just before the cancellation
                    raise
            if self.paused_until <= time():
                return self._cuts
            self.release()

    def release(self) -> None:
        """Return a slot and wake the calls that now fit."""
        self.in_flight -= 1
        while self._queue and self.in_flight < int(self.limit):
            waiter = self._queue.pop()
            if not waiter.done():  # otherwise cancelled while it waited
                self.in_flight += 1
                waiter.set_result(None)

    def succeeded(self) -> None:
        """Raise a lowered limit by this call's share of a round."""
        if self.limit < self.ceiling:
            self.limit = min(float(self.ceiling), self.limit + max(1.0, self.ceiling * RECOVERY_SHARE) / self.limit)

    def pushed_back(self, cuts_at_send: int, paused_until: float) -> None:
        """Halve the limit, unless it was cut since the call was sent, and pause the lane."""
        self.paused_until = max(self.paused_until, paused_until)
        if cuts_at_send == self._cuts:
            self._cuts += 1
            self.limit = max(1.0, self.limit / 2)
