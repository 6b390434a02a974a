"""Restores a run that an earlier process left: shows its events, counts its cost, and closes the calls that it had in flight.

It knows nothing of how the run goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field

from rlm.core.budget import Amounts, nanos_of
from rlm.core.events import (
    AnyEvent,
    CallBilled,
    CallFailed,
    CallReplied,
    CallSent,
    CallStarted,
    RunResumed,
    ToolEnded,
    ToolStarted,
)
from rlm.core.history import LOST
from rlm.core.ids import ROOT, CallId
from rlm.core.messages import Usage
from rlm.core.subcalls import SubcallFailure
from rlm.core.tools import INTERRUPTED
from rlm.core.values import slotted
from rlm.engine.calling.call import CallServices, emit_billed, emit_failed
from rlm.log import get_logger
from rlm.ports import Model

logger = get_logger(__name__)


@slotted
class OpenCalls:
    """The calls that were open when the process of a run ended.

    Attributes:
        lost: calls in flight.
        hedges: second requests that were in flight beside them.
        unbilled: calls whose reply was accepted before its stream, and so their cost, was complete.
        tools: executions of tools in flight.
    """

    lost: dict[CallId, CallStarted] = field(default_factory=dict)
    hedges: Counter[CallId] = field(default_factory=Counter)
    unbilled: dict[CallId, CallStarted] = field(default_factory=dict)
    tools: dict[CallId, ToolStarted] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Sequence[AnyEvent]) -> OpenCalls:
        calls = cls()
        for event in events:
            if isinstance(event, CallStarted):
                calls.lost[event.call] = event
            elif isinstance(event, CallSent):
                calls.hedges[event.call] += event.hedge
            elif isinstance(event, CallReplied | CallFailed):
                started = calls.lost.pop(event.call, None)
                if started is not None and isinstance(event, CallReplied) and not event.billed:
                    calls.unbilled[event.call] = started
            elif isinstance(event, ToolStarted):
                calls.tools[event.call] = event
            elif isinstance(event, ToolEnded):
                calls.tools.pop(event.call, None)
            elif isinstance(event, CallBilled):
                calls.unbilled.pop(event.call, None)
                if calls.hedges[event.call]:
                    calls.hedges[event.call] -= 1
        return calls


class Resume:
    """The start of a resumed run.

    Args:
        services: the ledger and the recorder of the run.
        models: the models that it asks now.
        counts_tokens: its budget counts more than calls.
    """

    def __init__(self, services: CallServices, models: Sequence[Model], *, counts_tokens: bool) -> None:
        self._services = services
        self._models = {model.name: model for model in reversed(models)}
        self._counts_tokens = counts_tokens

    def restore(self, past: Sequence[AnyEvent]) -> None:
        """Shows the events of earlier processes, and brings the ledger up to date with them."""
        recorder, ledger = self._services.recorder, self._services.reservations.ledger
        recorder.recall(past)
        model_of: dict[CallId, str] = {}
        for event in past:
            if isinstance(event, CallStarted):
                model_of[event.call] = event.model
            ledger.tool_calls += isinstance(event, ToolStarted)
            ledger.spent = ledger.spent + self._cost(event, model_of)
            if isinstance(event, CallBilled):
                ledger.assumed = ledger.assumed + _assumed(event)
        recorder.emit(RunResumed, ROOT)
        calls = OpenCalls.of(past)
        for call in calls.unbilled.values():
            self._assume(call, Usage(calls=1))
        for call in calls.lost.values():
            for _ in range(1 + calls.hedges[call.call]):
                self._assume(call, Usage())
            emit_failed(recorder, call, LOST, "in flight when its process ended")
        for tool in calls.tools.values():
            self._interrupt(tool)

    def _interrupt(self, tool: ToolStarted) -> None:
        """Records that a tool was in flight when its process ended: it might have taken effect."""
        message = f"{tool.tool}: its process ended before it did; whether it took effect is unknown"
        if not tool.idempotent:
            logger.warning("tool call %s is not executed again: %s", tool.call, message)
        self._services.recorder.emit(
            ToolEnded,
            tool.node,
            call=tool.call,
            tool=tool.tool,
            failure=SubcallFailure(INTERRUPTED, message),
            interrupted=True,
        )

    def _cost(self, event: AnyEvent, model_of: Mapping[CallId, str]) -> Amounts:
        """The cost that an event reports, as the budget counts it."""
        if isinstance(event, CallReplied) and event.billed and not event.cached:
            return self._services.meter.cost(model_of[event.call], event.reply.usage, event.cost_usd)[1]
        if isinstance(event, CallBilled):
            billed = Amounts(event.usage.calls, event.usage.total_tokens, nanos_of(event.cost_usd or 0.0))
            return billed + _assumed(event)
        return Amounts()

    def _assume(self, call: CallStarted, usage: Usage) -> None:
        """Counts the most that a call in flight can have cost: its real cost is unknown."""
        model, worst = self._models.get(call.model), Amounts(calls=1)
        if model is not None and self._counts_tokens:
            worst = self._services.meter.call_need(model, call.request).worst
        ledger = self._services.reservations.ledger
        ledger.spent, ledger.assumed = ledger.spent + worst, ledger.assumed + worst
        emit_billed(self._services.recorder, call, usage, 0.0, worst)


def _assumed(event: CallBilled) -> Amounts:
    """The part of a bill that no provider reported; at least one call if the bill names none."""
    return Amounts(0 if event.usage.calls else 1, event.assumed_tokens, nanos_of(event.assumed_usd))
