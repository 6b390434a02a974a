"""Totals of tokens and money, by model and by depth: a fold over ``CallReplied`` events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rlm.core.events import AnyEvent, CallReplied
from rlm.core.messages import Usage


@dataclass(frozen=True, slots=True)
class Spend:
    """Tokens and money of some calls. ``cost_usd`` sums what is known; ``unpriced_calls`` counts those without a price."""

    usage: Usage = Usage()
    cost_usd: float = 0.0
    unpriced_calls: int = 0

    def plus(self, usage: Usage, cost_usd: float | None) -> Spend:
        return replace(
            self,
            usage=self.usage + usage,
            cost_usd=self.cost_usd + (cost_usd or 0.0),
            unpriced_calls=self.unpriced_calls + (usage.calls if cost_usd is None else 0),
        )

    def __add__(self, other: Spend) -> Spend:
        return Spend(
            self.usage + other.usage, self.cost_usd + other.cost_usd, self.unpriced_calls + other.unpriced_calls
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


def add_call(report: UsageReport, event: CallReplied) -> UsageReport:
    """The report with one more answered call in it."""
    usage, cost = event.reply.usage, event.cost_usd
    return UsageReport(
        total=report.total.plus(usage, cost),
        by_model={**report.by_model, event.model: report.by_model.get(event.model, Spend()).plus(usage, cost)},
        by_depth={**report.by_depth, event.depth: report.by_depth.get(event.depth, Spend()).plus(usage, cost)},
    )


def sum_usage(events: Iterable[AnyEvent]) -> UsageReport:
    """The totals of everything that was answered."""
    report = UsageReport()
    for event in events:
        if isinstance(event, CallReplied):
            report = add_call(report, event)
    return report
