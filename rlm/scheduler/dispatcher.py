"""Sends a run's calls to their models: a slot for each attempt, a deadline, retries in between. Knows no nodes' conversations."""

from __future__ import annotations

import asyncio
import random
from itertools import count

from rlm.core.errors import ModelError, ModelTimeoutError
from rlm.core.ids import NodeId
from rlm.core.messages import Reply, Request
from rlm.ports import CallObserver, Clock, Model
from rlm.scheduler.lanes import Lane
from rlm.scheduler.retries import RetryPolicy, is_pushback, plan_retry


class Dispatcher:
    """One for each run: its lanes are shared by all nodes at all depths.

    Args:
        concurrency: how many calls to one model may be in flight at once.
        call_timeout_s: for one attempt, from leaving to the whole reply.
        jitter: a source of numbers from 0 to 1.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        concurrency: int = 64,
        call_timeout_s: float = 600.0,
        policy: RetryPolicy | None = None,
        jitter: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._call_timeout_s = call_timeout_s
        self._policy = policy or RetryPolicy()
        self._jitter = jitter or random.Random()  # noqa: S311  spreads retries, guards nothing
        self._lanes: dict[str, Lane] = {}

    def lane(self, model: str) -> Lane:
        """The lane of a model, by its full name."""
        return self._lanes.setdefault(model, Lane(self._concurrency))

    async def ask(self, model: Model, request: Request, *, node: NodeId, observer: CallObserver) -> Reply:
        """A whole reply, after as many attempts as are worth it.

        Raises:
            ModelError: the last attempt's.
        """
        lane = self.lane(model.name)
        for attempt in count(1):
            await observer.admit(attempt)
            sent_in_round = await self._enter(lane, node)
            try:
                observer.sent(attempt)
                reply = await self._attempt(model, request)
            except ModelError as error:
                if is_pushback(error):
                    wait = min(error.retry_after_s or 0.0, self._policy.max_retry_after_s)
                    lane.pushed_back(sent_in_round, self._clock.now() + wait)
                delay = plan_retry(error, attempt, self._policy, self._jitter.random())
                if delay is None:
                    raise
                observer.retried(attempt, delay, error)
            else:
                lane.succeeded()
                return reply
            finally:
                lane.release()
            await self._clock.sleep(delay)
        raise AssertionError  # count() never ends

    async def _enter(self, lane: Lane, node: NodeId) -> int:
        """A slot in a lane that is not paused; nobody holds one while it waits for the pause to end."""
        while True:
            if (left := lane.paused_until - self._clock.now()) > 0:
                await self._clock.sleep(left)
            sent_in_round = await lane.acquire(node)
            if lane.paused_until <= self._clock.now():
                return sent_in_round
            lane.release()

    async def _attempt(self, model: Model, request: Request) -> Reply:
        try:
            async with asyncio.timeout(self._call_timeout_s):
                return await model.ask(request)
        except TimeoutError:
            raise ModelTimeoutError(
                f"{model.name} did not reply within {self._call_timeout_s:g} s. Allow more with call_timeout_s.",
                model=model.name,
            ) from None
