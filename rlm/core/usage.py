"""Totals of tokens and money, by model and by depth: a fold over ``CallReplied`` and ``CallBilled`` events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rlm.core.events import AnyEvent, CallBilled, CallReplied
from rlm.core.messages import Usage


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens and money of some calls. ``cost_usd`` sums what is known; ``unpriced_calls`` counts those without a price.

    ``assumed_tokens`` and ``assumed_usd`` are apart from these: the most that calls can have cost which were cut off after they
    were sent, so that nobody reported what they did cost. They are known only under a budget that counts tokens or dollars.
    """

    usage: Usage = Usage()
    cost_usd: float = 0.0
    unpriced_calls: int = 0
    assumed_tokens: int = 0
    assumed_usd: float = 0.0

    def plus(self, usage: Usage, cost_usd: float | None) -> Spend:
        return replace(
            self,
            usage=self.usage + usage,
            cost_usd=self.cost_usd + (cost_usd or 0.0),
            unpriced_calls=self.unpriced_calls + (usage.calls if cost_usd is None else 0),
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
        )


@dataclass(frozen=True, slots=True)
class UsageReport:
    """``total`` equals the sum of ``by_model`` and the sum of ``by_depth``."""

    total: Spend = Spend()
    by_model: dict[str, Spend] = field(default_factory=dict)
    by_depth: dict[int, Spend] = field(default_factory=dict)

    def __add__(self, other: UsageReport) -> UsageReport:
        return UsageReport(
            self.total + other.total, _merge(self.by_model, other.by_model), _merge(self.by_depth, other.by_depth)
        )


K = TypeVar("K", str, int)


def _merge(ours: dict[K, Spend], theirs: dict[K, Spend]) -> dict[K, Spend]:
    return {key: ours.get(key, Spend()) + theirs.get(key, Spend()) for key in {**ours, **theirs}}


def add_call(report: UsageReport, event: CallReplied | CallBilled) -> UsageReport:
    """The report with one more paid call in it."""
    if isinstance(event, CallReplied):
        one = Spend().plus(event.reply.usage, event.cost_usd)
    else:
        one = Spend().plus(event.usage, event.cost_usd).assume(event.assumed_tokens, event.assumed_usd)
    return UsageReport(
        total=report.total + one,
        by_model={**report.by_model, event.model: report.by_model.get(event.model, Spend()) + one},
        by_depth={**report.by_depth, event.depth: report.by_depth.get(event.depth, Spend()) + one},
    )


def sum_usage(events: Iterable[AnyEvent]) -> UsageReport:
    """The totals of everything that was paid."""
    report = UsageReport()
    for event in events:
        if isinstance(event, CallReplied | CallBilled):
            report = add_call(report, event)
    return report
