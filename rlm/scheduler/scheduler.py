"""The scheduler of a run: joins slots, pace and retries. It decides about attempts; the engine makes them."""

from __future__ import annotations

import asyncio
import random

from rlm.core.errors import ModelError
from rlm.core.ids import NodeId
from rlm.core.messages import Reply, Request
from rlm.ports import Model
from rlm.scheduler.pace import Pacer
from rlm.scheduler.retries import RetryPolicy, is_pushback, plan_retry
from rlm.scheduler.slots import Lane


class RunScheduler:
    """Implements Scheduler. All nodes of a run share its lanes, at all depths.

    Args:
        concurrency: calls to one model that can be in flight at once.
        call_timeout_s: for one attempt, from sending it to the complete reply.
        requests_per_minute, tokens_per_minute: for each model; None for no limit.
        jitter: a source of numbers from 0 to 1.
    """

    def __init__(
        self,
        *,
        concurrency: int = 64,
        call_timeout_s: float = 600.0,
        policy: RetryPolicy | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self.call_timeout_s = call_timeout_s
        self.policy = policy or RetryPolicy()
        self.jitter = jitter or random.Random()  # noqa: S311  spreads retries, guards nothing
        paced = requests_per_minute is not None or tokens_per_minute is not None
        self.pacer = Pacer(requests_per_minute, tokens_per_minute) if paced else None
        self._concurrency = concurrency
        self._lanes: dict[str, Lane] = {}

    def lane(self, model: Model) -> Lane:
        """The lane of a model, by its full name.

        A model with fewer ``slots`` than ``concurrency`` gets no more calls than it can work on. Others would only wait there,
        with their timeout running.
        """
        lane = self._lanes.get(model.name)
        if lane is None:
            slots = model.info.slots or self._concurrency
            lane = self._lanes[model.name] = Lane(min(self._concurrency, slots))
        return lane

    async def acquire(self, model: Model, request: Request, node: NodeId) -> LaneSlot:
        """Wait for the model's pace, then for a slot."""
        if self.pacer is not None:
            wait_s = self.pacer.reserve(model.name, request, asyncio.get_running_loop().time())
            if wait_s > 0:
                await asyncio.sleep(wait_s)
        lane = self.lane(model)
        cuts = await lane.acquire(node)
        return LaneSlot(self, lane, cuts, model.name, request)


class LaneSlot:
    """Implements Slot: feeds the outcome of one attempt back into its lane and pace."""

    __slots__ = ("_cuts", "_lane", "_model", "_request", "_scheduler")

    def __init__(self, scheduler: RunScheduler, lane: Lane, cuts: int, model: str, request: Request) -> None:
        self._scheduler = scheduler
        self._lane = lane
        self._cuts = cuts
        self._model = model
        self._request = request

    def succeeded(self, reply: Reply) -> None:
        """See ``rlm.ports.Slot``."""
        self._lane.succeeded()
        if self._scheduler.pacer is not None:
            self._scheduler.pacer.correct(self._model, self._request, reply)

    def failed(self, error: ModelError, attempt: int) -> float | None:
        """See ``rlm.ports.Slot``."""
        policy = self._scheduler.policy
        if is_pushback(error):
            pause_s = min(error.retry_after_s or 0.0, policy.max_retry_after_s)
            self._lane.pushed_back(self._cuts, asyncio.get_running_loop().time() + pause_s)
        return plan_retry(error, attempt, policy, self._scheduler.jitter.random())

    def release(self) -> None:
        """See ``rlm.ports.Slot``."""
        self._lane.release()
