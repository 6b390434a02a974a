"""Slots: the calls in flight to one model, shared fairly between runs and, within a run, between nodes.

A lane belongs to an endpoint, key and model in the process. All runs share its limit, its pauses and its queue. In an outage,
the provider refuses every call. The lane then pauses, and sends one call at a time as a probe until one is answered.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from rlm.core.errors import ModelError
from rlm.core.ids import NodeId
from rlm.core.messages import Headroom
from rlm.ports import Model
from rlm.scheduler.latencies import Latencies
from rlm.scheduler.limit import CEILING, START, AdaptiveLimit
from rlm.scheduler.pace import Allowance, Paces

PROBE_FIRST_S = 0.5  # pause before the first probe of an outage; doubles up to the longest
PROBE_MAX_S = 5.0
RETRY_SECONDS = 300.0  # that calls wait for the end of an outage, by default


@dataclass(eq=False, slots=True)
class Share:
    """The calls of all runs that set the same limit of their own. ``ceiling`` is None without one."""

    ceiling: int | None
    in_flight: int = 0

    @property
    def is_full(self) -> bool:
        return self.ceiling is not None and self.in_flight >= self.ceiling


@dataclass(eq=False, slots=True)
class LaneUser:
    """One run in a lane. ``retry_seconds`` limits its wait for the end of an outage."""

    share: Share
    retry_seconds: float = RETRY_SECONDS


class FairQueue:
    """Waiting calls, served round-robin by run, then by node, and first-come within a node."""

    def __init__(self) -> None:
        self._by_user: OrderedDict[LaneUser, OrderedDict[NodeId, deque[asyncio.Future[int]]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._by_user)

    @property
    def users(self) -> list[LaneUser]:
        return list(self._by_user)

    def push(self, user: LaneUser, node: NodeId) -> asyncio.Future[int]:
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        nodes = self._by_user.get(user)
        if nodes is None:
            nodes = self._by_user[user] = OrderedDict()
        queue = nodes.get(node)
        if queue is None:
            queue = nodes[node] = deque()
        queue.append(waiter)
        return waiter

    def pop(self) -> tuple[LaneUser, asyncio.Future[int]] | None:
        """The next call whose share has room, or None."""
        for user in self._by_user:
            if not user.share.is_full:
                break
        else:
            return None
        nodes = self._by_user[user]
        node, queue = next(iter(nodes.items()))
        waiter = queue.popleft()
        if not queue:
            del nodes[node]
        elif len(nodes) > 1:
            nodes.move_to_end(node)  # the other nodes come first
        if not nodes:
            del self._by_user[user]
        elif len(self._by_user) > 1:
            self._by_user.move_to_end(user)  # the other runs come first
        return user, waiter

    def drop(self, user: LaneUser) -> list[asyncio.Future[int]]:
        """Remove and return all calls of a run."""
        return [waiter for queue in self._by_user.pop(user, OrderedDict()).values() for waiter in queue]


class Lane:
    """The slots of one model.

    Attributes:
        limit: learned from the provider's answers.
        in_flight: calls that hold a slot.
        sent: slots granted so far. Each has its number.
        paused_until: the loop time before which no call is sent.
        allowance: what the provider accepts now, as its replies report.
        paces: the limits on requests and tokens a minute.
        latencies: of the model's replies.
    """

    def __init__(self, ceiling: int = CEILING, start: int = START) -> None:
        self.limit = AdaptiveLimit(ceiling, start)
        self.in_flight = 0
        self.sent = 0
        self.paused_until = 0.0
        self.allowance = Allowance()
        self.paces = Paces()
        self.latencies = Latencies()
        self._most = ceiling  # that the model itself takes
        self._queue = FairQueue()
        self._shares: dict[int | None, Share] = {}
        self._probes = 0  # pauses of the current outage
        self._refused_since: float | None = None  # the time of the first refusal after the last success
        self._timer: asyncio.TimerHandle | None = None

    def join(self, concurrency: int | None, retry_seconds: float = RETRY_SECONDS) -> LaneUser:
        """A new run in this lane. Runs with the same ``concurrency`` share it."""
        share = self._shares.setdefault(concurrency, Share(concurrency))
        if concurrency is not None:
            self.limit.raise_start(min(concurrency, self._most))
        return LaneUser(share, retry_seconds)

    def try_acquire(self, user: LaneUser) -> int:
        """Take a slot if one is free and no call waits. Returns its number, from 1, or 0."""
        if self._queue or self.in_flight >= int(self.limit.value) or user.share.is_full or self._is_paused:
            return 0
        return self._grant(user)

    async def acquire(self, user: LaneUser, node: NodeId) -> int:
        """Wait for a slot. A call holds none while the lane is paused. Returns its number.

        Raises:
            ModelError: the provider has refused every call for as long as the run allows.
        """
        if number := self.try_acquire(user):
            return number
        waiter = self._queue.push(user, node)
        self._serve()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(user)  # the slot was granted just before the cancellation
            raise

    def release(self, user: LaneUser) -> None:
        """Return a slot and wake the calls that now fit."""
        self.in_flight -= 1
        user.share.in_flight -= 1
        if self._queue:
            self._serve()

    def succeeded(self, level: int, successes_at_send: int) -> None:
        """Record a reply."""
        self.limit.succeeded(level, successes_at_send, self.in_flight)
        self._probes, self._refused_since = 0, None

    def report(self, number: int, headroom: Headroom | None) -> None:
        """Record what the reply to a call reports about the provider's limits. ``number`` is that of its slot."""
        if headroom is not None or self.allowance.is_limited:
            self.allowance.report(number, self.sent - number, headroom, asyncio.get_running_loop().time())

    def answered(self) -> None:
        """Record a failure that shows that the provider accepts calls."""
        self.limit.refused_in_row, self._probes, self._refused_since = 0, 0, None

    def refused(self, level: int, successes_at_send: int, error: ModelError, pause_s: float) -> None:
        """Record a refusal by a call that still holds its slot. ``pause_s`` is the provider's Retry-After."""
        now = asyncio.get_running_loop().time()
        if self._refused_since is None:
            self._refused_since = now
        others = self.in_flight - 1
        self.allowance.refused(now)
        self.limit.refused(level, successes_at_send, others)
        if self.limit.is_outage(others):
            self.limit.collapse()
            pause_s = max(pause_s, min(PROBE_MAX_S, PROBE_FIRST_S * 2.0 ** min(self._probes, 10)))
            self._probes += 1
            for user in self._queue.users:
                if now + pause_s - self._refused_since > user.retry_seconds:
                    self._give_up(user, error)
        self.paused_until = max(self.paused_until, now + pause_s)

    def refused_for(self, now: float) -> float:
        """Seconds for which the provider has refused every call."""
        return 0.0 if self._refused_since is None else now - self._refused_since

    def _give_up(self, user: LaneUser, error: ModelError) -> None:
        for waiter in self._queue.drop(user):
            if not waiter.done():
                message = f"{error} No call was accepted for {user.retry_seconds:g} s (`retry_seconds`)."
                waiter.set_exception(type(error)(message, model=error.model, status=error.status))

    @property
    def _is_paused(self) -> bool:
        opens_at = max(self.paused_until, self.allowance.opens_at)
        return opens_at != 0.0 and opens_at > asyncio.get_running_loop().time()

    def _grant(self, user: LaneUser) -> int:
        self.in_flight += 1
        user.share.in_flight += 1
        self.sent += 1
        if self.allowance.is_limited:
            self.allowance.take(asyncio.get_running_loop().time())
        return self.sent

    def _serve(self) -> None:
        """Grant slots in order, and set a timer for the end of a pause."""
        while self._queue and self.in_flight < int(self.limit.value):
            if self._is_paused:
                self._serve_at(max(self.paused_until, self.allowance.opens_at))
                return
            entry = self._queue.pop()
            if entry is None:
                return
            user, waiter = entry
            if not waiter.done():  # otherwise cancelled while it waited
                waiter.set_result(self._grant(user))

    def _serve_at(self, time: float) -> None:
        if self._timer is not None:
            if self._timer.when() == time and not self._timer.cancelled():
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(time, self._serve_now)

    def _serve_now(self) -> None:
        self._timer = None
        self._serve()


class Lanes:
    """All lanes that runs share. Futures belong to an event loop, so each loop has lanes of its own.

    A model without an ``endpoint`` has a lane of its own for as long as it lives.
    """

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, Lane]] = WeakKeyDictionary()

    def lane(self, model: Model) -> Lane:
        """The lane of a model on the running loop."""
        lanes = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        subject: object = getattr(model, "inner", model)  # every ``RLM`` wraps a user's model again
        key = (model.info.endpoint, model.name) if model.info.endpoint else id(subject)
        lane = lanes.get(key)
        if lane is None:
            # Calls beyond the slots of a local model would only wait there, with their deadline running.
            lane = Lane(model.info.slots or CEILING)
            if isinstance(key, int):
                try:
                    weakref.finalize(subject, lanes.pop, key, None)  # ids are used again
                except TypeError:
                    return lane  # not weakly referable: a lane for this run alone
            lanes[key] = lane
        return lane
