"""Takes up a run that an earlier process had begun: shows what it did, counts what it cost, closes calls that went down with it.

It must not know how a run goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlm.core.budget import Amounts, nanos_of
from rlm.core.events import AnyEvent, CallBilled, CallFailed, CallReplied, CallStarted, RunResumed
from rlm.core.history import LOST
from rlm.core.ids import ROOT, CallId
from rlm.core.messages import Usage
from rlm.engine.calling.call import CallServices, tell_bill, tell_failure
from rlm.ports import Model


@dataclass(slots=True)
class OpenCalls:
    """What was open when the process of a run ended.

    Attributes:
        lost: calls that were in flight.
        unbilled: calls whose reply was taken while it still arrived, before it was told what they cost.
    """

    lost: dict[CallId, CallStarted] = field(default_factory=dict)
    unbilled: dict[CallId, CallStarted] = field(default_factory=dict)

    @classmethod
    def of(cls, events: Sequence[AnyEvent]) -> OpenCalls:
        calls = cls()
        for event in events:
            if isinstance(event, CallStarted):
                calls.lost[event.call] = event
            elif isinstance(event, CallReplied | CallFailed):
                started = calls.lost.pop(event.call, None)
                if started is not None and isinstance(event, CallReplied) and not event.billed:
                    calls.unbilled[event.call] = started
            elif isinstance(event, CallBilled):
                calls.unbilled.pop(event.call, None)
        return calls


class TakingUp:
    """Of one run. ``models`` are those that it asks now; ``counts_tokens``: its budget counts more than calls."""

    def __init__(self, till: CallServices, models: Sequence[Model], *, counts_tokens: bool) -> None:
        self._till = till
        self._models = {model.name: model for model in reversed(models)}
        self._counts_tokens = counts_tokens

    def take_up(self, past: Sequence[AnyEvent]) -> None:
        """Recalls the events of an earlier process, and brings the books up to them."""
        recorder, ledger = self._till.recorder, self._till.holds.ledger
        recorder.recall(past)
        model_of: dict[CallId, str] = {}
        for event in past:
            if isinstance(event, CallStarted):
                model_of[event.call] = event.model
            ledger.spent = ledger.spent + self._cost(event, model_of)
            if isinstance(event, CallBilled):
                ledger.assumed = ledger.assumed + _assumed(event)
        recorder.emit(RunResumed, ROOT)
        calls = OpenCalls.of(past)
        for call in calls.unbilled.values():
            self._assume(call, Usage(calls=1))
        for call in calls.lost.values():
            self._assume(call, Usage())
            tell_failure(recorder, call, LOST, "in flight when its process ended")

    def _cost(self, event: AnyEvent, model_of: Mapping[CallId, str]) -> Amounts:
        """The cost in an event, as it counts against the budget."""
        if isinstance(event, CallReplied) and event.billed and not event.cached:
            return self._till.meter.cost(model_of[event.call], event.reply.usage, event.cost_usd)[1]
        if isinstance(event, CallBilled):
            billed = Amounts(event.usage.calls, event.usage.total_tokens, nanos_of(event.cost_usd or 0.0))
            return billed + _assumed(event)
        return Amounts()

    def _assume(self, call: CallStarted, usage: Usage) -> None:
        """Nobody can say what a call that was in flight has cost: the budget counts the most it can have."""
        model, worst = self._models.get(call.model), Amounts(calls=1)
        if model is not None and self._counts_tokens:
            worst = self._till.meter.call_need(model, call.request).worst
        ledger = self._till.holds.ledger
        ledger.spent, ledger.assumed = ledger.spent + worst, ledger.assumed + worst
        tell_bill(self._till.recorder, call, usage, 0.0, worst)


def _assumed(event: CallBilled) -> Amounts:
    """What a bill counts that nobody reported; a call at least, where it names none."""
    return Amounts(0 if event.usage.calls else 1, event.assumed_tokens, nanos_of(event.assumed_usd))
