"""Totals of tokens and money, by model and by depth: a fold over ``CallReplied`` and ``CallBilled`` events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import field, replace
from typing import TypeVar

from rlm.core.events import AnyEvent, CallBilled, CallReplied, CallSent, CallStarted, ToolStarted
from rlm.core.ids import CallId
from rlm.core.messages import Usage
from rlm.core.values import frozen


@frozen
class Spend:
    """Tokens and money of some calls. ``cost_usd`` sums known prices; ``unpriced_calls`` counts calls without a price.

    ``assumed_tokens`` and ``assumed_usd`` are not part of these sums. They are the most that calls can have cost which were
    cancelled after they were sent. They are known only under a budget that counts tokens or dollars. ``requests`` counts what
    was sent to providers: calls with their retries and hedges.
    """

    usage: Usage = Usage()
    cost_usd: float = 0.0
    unpriced_calls: int = 0
    assumed_tokens: int = 0
    assumed_usd: float = 0.0
    requests: int = 0

    def plus(self, usage: Usage, cost_usd: float | None) -> Spend:
        return Spend(
            self.usage + usage,
            self.cost_usd + (cost_usd or 0.0),
            self.unpriced_calls + (usage.calls if cost_usd is None else 0),
            self.assumed_tokens,
            self.assumed_usd,
            self.requests,
        )

    def assume(self, tokens: int, usd: float) -> Spend:
        return replace(self, assumed_tokens=self.assumed_tokens + tokens, assumed_usd=self.assumed_usd + usd)

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.usage + other.usage,
            self.cost_usd + other.cost_usd,
            self.unpriced_calls + other.unpriced_calls,
            self.assumed_tokens + other.assumed_tokens,
            self.assumed_usd + other.assumed_usd,
            self.requests + other.requests,
        )


@frozen
class UsageReport:
    """``total`` equals the sum of ``by_model`` and the sum of ``by_depth``. ``tool_calls`` counts executions of tools."""

    total: Spend = Spend()
    by_model: dict[str, Spend] = field(default_factory=dict)
    by_depth: dict[int, Spend] = field(default_factory=dict)
    tool_calls: int = 0

    def __add__(self, other: UsageReport) -> UsageReport:
        return UsageReport(
            self.total + other.total,
            _merge(self.by_model, other.by_model),
            _merge(self.by_depth, other.by_depth),
            self.tool_calls + other.tool_calls,
        )


K = TypeVar("K", str, int)


def _merge(ours: dict[K, Spend], theirs: dict[K, Spend]) -> dict[K, Spend]:
    return {key: ours.get(key, Spend()) + theirs.get(key, Spend()) for key in {**ours, **theirs}}


class Totals:
    """Adds up tokens and money by model and depth. Both are those of the call's ``CallStarted``."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, int], Spend] = {}
        self._places: dict[CallId, tuple[str, int]] = {}
        self._sent = defaultdict[tuple[str, int], int](int)
        self._tool_calls = 0

    def add(self, event: AnyEvent) -> None:
        """Counts the tokens and the money in an event."""
        match event:
            case CallStarted():
                self._places[event.call] = (event.model, event.depth)
            case CallSent():
                self._sent[self._places[event.call]] += 1
            case CallReplied():
                place = self._places[event.call]
                self._spent[place] = self._spent.get(place, Spend()).plus(event.reply.usage, event.cost_usd)
            case CallBilled():
                place = self._places[event.call]
                spend = self._spent.get(place, Spend()).plus(event.usage, event.cost_usd)
                self._spent[place] = spend.assume(event.assumed_tokens, event.assumed_usd)
            case ToolStarted():
                self._tool_calls += 1
            case _:
                pass

    def report(self) -> UsageReport:
        total = Spend()
        by_model, by_depth = defaultdict[str, Spend](Spend), defaultdict[int, Spend](Spend)
        for place in dict.fromkeys((*self._spent, *self._sent)):
            (model, depth), spend = place, self._spent.get(place, Spend())
            spend = replace(spend, requests=self._sent.get(place, 0))
            total, by_model[model], by_depth[depth] = total + spend, by_model[model] + spend, by_depth[depth] + spend
        return UsageReport(total, dict(by_model), dict(by_depth), self._tool_calls)


def sum_usage(events: Iterable[AnyEvent]) -> UsageReport:
    """Totals over the events of a run."""
    totals = Totals()
    for event in events:
        totals.add(event)
    return totals.report()
