"""Asks for the turns of nodes: one call each, reserved together with the budget for the node's last turn.

A recorded turn is not asked again. It knows neither the meaning of a reply nor how cells run.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rlm.core.actions import Ask, AskFailed, Compact, Compacted, LimitMet, NodeEvent, Replied
from rlm.core.bounds import text_bytes
from rlm.core.compaction import estimate_tokens
from rlm.core.errors import BudgetExceededError, ModelError, PromptTooLongError, TruncatedReplyError
from rlm.core.ids import summary_call, turn_call
from rlm.core.messages import Reply, Request, Task, Usage
from rlm.core.node import LEARNT_WINDOW
from rlm.core.observations import INVENTED
from rlm.engine.calling.call import Call
from rlm.engine.calling.caller import Caller
from rlm.engine.continuation import Continuation
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.replay.superseding import Superseding
from rlm.engine.settings import NodeJob, TreeSettings
from rlm.engine.spending.limits import RunLimits
from rlm.engine.spending.meter import PromptCount
from rlm.engine.spending.stop import Stopped
from rlm.ports import Model
from rlm.prompts import describe_limit


class Turns:
    """Asks the models of nodes, and reports the duration of the root's turns to the deadline."""

    def __init__(
        self,
        settings: TreeSettings,
        caller: Caller,
        limits: RunLimits,
        policy: ReplayPolicy,
        superseding: Superseding,
        *,
        continuation: Continuation | None = None,
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._recorder = caller.recorder
        self._stop = limits.stop
        self._deadline = limits.deadline
        self._policy = policy
        self._superseding = superseding
        self._windows: dict[str, int] = {}
        earlier = continuation or Continuation(caller.recorder.run)
        self._first_run = earlier.first_run
        self._earlier_messages = len(earlier.messages)

    async def ask(self, job: NodeJob, action: Ask, count: PromptCount) -> NodeEvent:
        settings, meter = self._settings, self._caller.meter
        self._superseding.settle_reply(job.id, action.turn)
        if job.parent is None and action.turn == job.earlier_turns + 1:
            meter.fit_sizes(job.model, action.messages)
        request = Request(
            action.messages,
            role="node",
            depth=job.depth,
            temperature=settings.temperature,
            max_output_tokens=meter.output_limit(job.model),
            stop=INVENTED,
            cache_key=self._cache_key(job),
            task=self._task(job, action),
        )
        began = self._recorder.at_s
        try:
            recorded = self._policy.turn(job.id, action, request)
            reply = recorded or await self._ask_model(job, action, request, count)
        except BudgetExceededError as error:
            return LimitMet(error.limit, self._shown_bytes(job, action, count))
        except ModelError as error:
            if error.ends_run:
                raise
            if isinstance(error, PromptTooLongError):
                self._learn_window(job, action)
            if isinstance(error, TruncatedReplyError):
                count.record(action.messages, error.text, error.usage or Usage())
            return AskFailed(error)
        count.record(action.messages, reply.text, reply.usage)
        if not action.last and reply.usage.input_tokens:  # plans, programs in place of a model, count no tokens
            self._caller.reservations.retain_for_last_turn(job.id, meter.last_turn_after(job.model, reply.usage))
        if self._deadline is not None and job.parent is None and recorded is None:
            self._deadline.record_turn(self._recorder.at_s - began)
        return Replied(reply.text, reply.usage.input_tokens and reply.usage.total_tokens)

    def _cache_key(self, job: NodeJob) -> str:
        """Names the conversation for the provider's prefix cache."""
        return f"{self._first_run if job.parent is None else self._recorder.run}:{job.id}"

    def _task(self, job: NodeJob, action: Ask) -> Task:
        settings = self._settings
        earlier = self._earlier_messages if job.parent is None else 0
        chars = settings.sub_prompt_chars(job.depth)
        return Task(job.question, job.depth, settings.max_depth, action.turn, chars, earlier)

    async def _ask_model(self, job: NodeJob, action: Ask, request: Request, count: PromptCount) -> Reply:
        """Asks for one turn, reserved together with the budget for the node's last turn.

        Raises:
            BudgetExceededError: the budget forbids the turn, or the run was stopped during it.
        """
        caller, root = self._caller, job.parent is None
        self._superseding.ask_turn(job.id, action.turn)
        final = action.last and root
        need = caller.meter.turn_need(job.model, job.id, count, action.messages, last=action.last, final=final)
        if job.prefetched and action.turn == 1:
            need = replace(need, ahead=True)
        call_id = turn_call(job.id, action.turn)
        call = Call(caller.services, job.model, request, need, call_id, job.id, action.turn, limit=action.limit)
        ask = partial(
            caller.ask_turn,
            call,
            rule=self._settings.cut_replies,
            on_billed=lambda reply: count.record(action.messages, reply.text, reply.usage),
        )
        if (
            not root or final or action.turn == job.earlier_turns + 1
        ):  # after the root's first turn there is something to answer from
            return await ask()
        try:
            with self._stop.interrupting():
                return await ask()
        except Stopped:
            limit = self._stop.limit or ""
            raise BudgetExceededError(describe_limit(limit), limit=limit) from None

    def window_tokens(self, model: Model) -> int:
        """The context window of a model, as far as this run has found it out."""
        return self._windows.get(model.name, model.info.window_tokens)

    def _learn_window(self, job: NodeJob, action: Ask) -> None:
        """Remembers that a conversation of this size was too long for the model."""
        size = int(estimate_tokens(action.messages) * LEARNT_WINDOW)
        self._windows[job.model.name] = min(size, self.window_tokens(job.model) or size)

    def _shown_bytes(self, job: NodeJob, action: Ask, count: PromptCount) -> int | None:
        meter = self._caller.meter
        need_for = meter.last_turn_need(job.model, job.id, count, action.messages)
        return meter.affordable_bytes(need_for, text_bytes(action.messages[-1].text))

    async def summarise(self, job: NodeJob, action: Compact) -> NodeEvent:
        """Asks for a summary of a conversation's older part: a leaf call that has the conversation as its prefix."""
        model, meter = job.model, self._caller.meter
        request = Request(
            action.messages,
            depth=job.depth,
            temperature=self._settings.temperature,
            max_output_tokens=meter.output_limit(model),
            cache_key=self._cache_key(job),
        )
        need, call_id = meter.call_need(model, request), summary_call(job.id, action.turn)
        try:
            recorded = self._policy.summary(job.id, action.turn)
            if recorded is None:
                self._superseding.summarise(job.id, action.turn)
            reply = recorded or await self._caller.ask(
                Call(self._caller.services, model, request, need, call_id, job.id, action.turn)
            )
        except BudgetExceededError as error:
            return LimitMet(error.limit)
        except ModelError as error:
            if error.ends_run:
                raise
            return AskFailed(error)
        return Compacted(reply.text)
