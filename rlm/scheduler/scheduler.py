"""The scheduler of a run: joins lanes, pace and retries. It decides about attempts; the engine makes them."""

from __future__ import annotations

import asyncio
import random

from rlm.core.errors import ModelError, ModelTimeoutError
from rlm.core.ids import NodeId
from rlm.core.messages import Reply, Request
from rlm.ports import Model
from rlm.scheduler.pace import Pacer
from rlm.scheduler.retries import Failures, RetryPolicy, is_answer, is_refusal, plan_retry
from rlm.scheduler.slots import Lane, Lanes, LaneUser


class RunScheduler:
    """Implements Scheduler for one run.

    Args:
        lanes: shared with the other runs of the process.
        concurrency: an upper limit on calls to one model in flight; None learns it.
        call_timeout_s: for one attempt, from sending it to the complete reply.
        requests_per_minute, tokens_per_minute: for each model; None for no limit.
        jitter: a source of numbers from 0 to 1.
    """

    def __init__(
        self,
        lanes: Lanes | None = None,
        *,
        concurrency: int | None = None,
        call_timeout_s: float = 600.0,
        policy: RetryPolicy | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.call_timeout_s = call_timeout_s
        self.policy = policy or RetryPolicy()
        self.jitter = jitter or random.Random()  # noqa: S311  spreads retries, guards nothing
        self._lanes = lanes or Lanes()
        self._concurrency = concurrency
        self._paces = (requests_per_minute, tokens_per_minute)
        self._places: dict[int, Place] = {}  # by the id of the model, which the place holds

    def lane(self, model: Model) -> Lane:
        """The lane of a model."""
        return self._place(model).lane

    @property
    def in_flight(self) -> int:
        """Calls of all runs that hold a slot for one of this run's models."""
        return sum(place.lane.in_flight for place in self._places.values())

    async def acquire(self, model: Model, request: Request, node: NodeId, after: LaneSlot | None = None) -> LaneSlot:
        """Wait for the model's pace, then for a slot."""
        place = self._places.get(id(model)) or self._place(model)
        if place.pacer is not None:
            wait_s = place.pacer.reserve(request, asyncio.get_running_loop().time())
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        number = place.lane.try_acquire(place.user) or await place.lane.acquire(place.user, node)
        return LaneSlot(self, place, request, number, after)

    def try_acquire(self, model: Model, request: Request) -> LaneSlot | None:
        """A slot for an attempt that can be sent now, or None."""
        place = self._place(model)
        number = 0 if place.pacer is not None else place.lane.try_acquire(place.user)
        return LaneSlot(self, place, request, number, None) if number else None

    def _place(self, model: Model) -> Place:
        place = self._places.get(id(model))
        if place is None:
            lane = self._lanes.lane(model)
            user = lane.join(self._concurrency, self.policy.patience_s)
            place = self._places[id(model)] = Place(model, lane, user, lane.paces.pacer(*self._paces))
        return place


class Place:
    """One run's place in the lane of a model."""

    __slots__ = ("lane", "model", "pacer", "user")

    def __init__(self, model: Model, lane: Lane, user: LaneUser, pacer: Pacer | None) -> None:
        self.model = model
        self.lane = lane
        self.user = user
        self.pacer = pacer


class LaneSlot:
    """Implements Slot: feeds the outcome of one attempt back into its lane and pace."""

    __slots__ = (
        "_failures", "_latency", "_level", "_number", "_place", "_request", "_scheduler", "_sent_at", "_successes",
    )  # fmt: skip

    def __init__(
        self, scheduler: RunScheduler, place: Place, request: Request, number: int, after: LaneSlot | None
    ) -> None:
        self._scheduler = scheduler
        self._place = place
        self._request = request
        self._number = number
        self._latency = place.lane.latencies.of(request)
        self._level = place.lane.in_flight
        self._successes = place.lane.limit.successes
        self._sent_at = asyncio.get_running_loop().time()
        self._failures: Failures | None = None if after is None else after._failures

    @property
    def timeout_s(self) -> float:
        """See ``rlm.ports.Slot``."""
        cut = 0 if self._failures is None else self._failures.cut
        return self._latency.deadline_s(self._scheduler.call_timeout_s, cut)

    @property
    def straggler_s(self) -> float | None:
        """See ``rlm.ports.Slot``."""
        return self._latency.straggler_s

    def succeeded(self, reply: Reply) -> None:
        """See ``rlm.ports.Slot``."""
        place = self._place
        place.lane.succeeded(self._level, self._successes)
        place.lane.report(self._number, reply.headroom)
        self._latency.record(asyncio.get_running_loop().time() - self._sent_at)
        if place.pacer is not None:
            place.pacer.correct(self._request, reply)

    def failed(self, error: ModelError) -> float | None:
        """See ``rlm.ports.Slot``."""
        lane, policy, now, refused_s = self._place.lane, self._scheduler.policy, asyncio.get_running_loop().time(), 0.0
        if self._failures is None:
            self._failures = Failures()
        past = self._failures
        if is_refusal(error):
            past.refusals += 1
            if past.refusals == 1:
                past.refused_since = now
            lane.refused(self._level, self._successes, error, min(error.retry_after_s or 0.0, policy.patience_s))
            refused_s = max(now - past.refused_since, lane.refused_for(now))
        else:
            past.others += 1
            past.cut += isinstance(error, ModelTimeoutError)
            if is_answer(error):
                lane.answered()
        return plan_retry(error, past, policy, self._scheduler.jitter.random(), refused_s)

    def release(self) -> None:
        """See ``rlm.ports.Slot``."""
        self._place.lane.release(self._place.user)
