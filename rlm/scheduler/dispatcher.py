"""Sends a run's calls to their models: a slot for each attempt, a deadline, retries in between. Knows no nodes' conversations."""

from __future__ import annotations

import asyncio
import random

from rlm.core.errors import ModelError, ModelTimeoutError
from rlm.core.ids import NodeId
from rlm.core.messages import Reply, Request
from rlm.ports import CallObserver, Model, OnText, can_stream
from rlm.scheduler.lanes import Lane
from rlm.scheduler.pace import Pace
from rlm.scheduler.retries import RetryPolicy, is_pushback, plan_retry

CHARS_PER_TOKEN = 4
TYPICAL_OUTPUT_TOKENS = 300  # of a leaf's reply, where the call sets no limit


class Dispatcher:
    """One for each run: its lanes are shared by all nodes at all depths.

    Args:
        concurrency: how many calls to one model may be in flight at once.
        call_timeout_s: for one attempt, from leaving to the whole reply.
        requests_per_minute, tokens_per_minute: for each model; None for no such limit. Tokens are estimated before a call
            and corrected by what its reply reports.
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
        self._concurrency = concurrency
        self._call_timeout_s = call_timeout_s
        self._policy = policy or RetryPolicy()
        self._jitter = jitter or random.Random()  # noqa: S311  spreads retries, guards nothing
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._lanes: dict[str, Lane] = {}
        self._paces: dict[str, tuple[Pace | None, Pace | None]] = {}

    def lane(self, model: Model) -> Lane:
        """The lane of a model, shared by all that have its full name.

        A model may say in ``slots`` how many calls it can work on at once, as one in this machine's own llama.cpp does: more are
        not sent, because they would only wait there, with their deadline running.
        """
        lane = self._lanes.get(model.name)
        if lane is None:
            slots: int = getattr(model, "slots", self._concurrency)
            lane = self._lanes[model.name] = Lane(min(self._concurrency, slots))
        return lane

    async def ask(self, model: Model, request: Request, *, node: NodeId, observer: CallObserver) -> Reply:
        """A whole reply, after as many attempts as are worth it.

        Raises:
            ModelError: the last attempt's.
        """
        lane = self.lane(model)
        paced = self._requests_per_minute is not None or self._tokens_per_minute is not None
        attempt = 0
        while True:
            attempt += 1
            if paced:
                await self._keep_pace(model.name, request)
            await observer.admit(attempt)
            sent_in_round = await self._enter(lane, node)
            try:
                observer.sent(attempt)
                reply = await self._attempt(model, request, observer.listen())
            except ModelError as error:
                if is_pushback(error):
                    wait = min(error.retry_after_s or 0.0, self._policy.max_retry_after_s)
                    lane.pushed_back(sent_in_round, asyncio.get_running_loop().time() + wait)
                delay = plan_retry(error, attempt, self._policy, self._jitter.random())
                if observer.decided or delay is None:
                    raise
                observer.retried(attempt, delay, error)
            else:
                lane.succeeded()
                if self._tokens_per_minute is not None:
                    self._correct_pace(model.name, request, reply)
                return reply
            finally:
                lane.release()
            await asyncio.sleep(delay)

    async def _keep_pace(self, model: str, request: Request) -> None:
        """Waits until the limits a minute allow one more call. Reservations no slot meanwhile."""
        now = asyncio.get_running_loop().time()
        requests, tokens = self._pace_of(model)
        wait = requests.reserve(1, now) if requests else 0.0
        if tokens:
            wait = max(wait, tokens.reserve(estimate_tokens(request), now))
        if wait > 0:
            await asyncio.sleep(wait)

    def _correct_pace(self, model: str, request: Request, reply: Reply) -> None:
        _, tokens = self._pace_of(model)
        if tokens:
            tokens.correct(estimate_tokens(request) - reply.usage.total_tokens)

    def _pace_of(self, model: str) -> tuple[Pace | None, Pace | None]:
        paces = self._paces.get(model)
        if paces is None:
            limits = (self._requests_per_minute, self._tokens_per_minute)
            requests, tokens = (None if limit is None else Pace(limit) for limit in limits)
            paces = self._paces[model] = (requests, tokens)
        return paces

    async def _enter(self, lane: Lane, node: NodeId) -> int:
        """A slot in a lane that is not paused; nobody holds one while it waits for the pause to end."""
        while True:
            if (left := lane.paused_until - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(left)
            sent_in_round = await lane.acquire(node)
            if lane.paused_until <= asyncio.get_running_loop().time():
                return sent_in_round
            lane.release()

    async def _attempt(self, model: Model, request: Request, hear: OnText | None) -> Reply:
        try:
            async with asyncio.timeout(self._call_timeout_s):
                if hear is not None and can_stream(model):
                    return await model.stream(request, hear)
                return await model.ask(request)
        except TimeoutError:
            raise ModelTimeoutError(
                f"{model.name} did not reply within {self._call_timeout_s:g} s. Allow more with call_timeout_s.",
                model=model.name,
            ) from None


def estimate_tokens(request: Request) -> int:
    """What a call may cost against a limit of tokens a minute, before it is known."""
    prompt = sum(len(message.content) for message in request.messages) // CHARS_PER_TOKEN
    return 1 + prompt + (request.max_output_tokens or TYPICAL_OUTPUT_TOKENS)
