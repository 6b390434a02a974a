"""Markdown reports of results: each arm at each length, and paired differences between arms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rlm_evals.intervals import Interval, bootstrap_mean, paired_difference, quantile
from rlm_evals.results import Line


@dataclass(frozen=True, slots=True)
class Row:
    """One arm on one task family at one length. Shares are from 0 to 1; ``label_accuracy`` is None without judged labels."""

    family: str
    length: int
    arm: str
    score: Interval
    published: float
    finished: float
    partial: float
    label_accuracy: float | None
    labels_judged: int
    calls_p50: float
    tokens: tuple[float, float]
    cost_usd: tuple[float, float] | None
    seconds: tuple[float, float]
    errors: Mapping[str, int]


def family_of(line: Line) -> str:
    """Task name without its question form: ``oolong/spam``, ``ruler/vt``, ``records``."""
    parts = line.task.split("/")
    return parts[0] if parts[0] == "records" else "/".join(parts[:2])


def summarise(lines: Iterable[Line], *, merge_tasks: bool = False) -> list[Row]:
    """Rows by family, length and arm. ``merge_tasks`` merges all families."""
    groups: dict[tuple[str, int, str], list[Line]] = {}
    for line in lines:
        groups.setdefault(("all" if merge_tasks else family_of(line), line.length, line.arm), []).append(line)
    return [_summarise_group(*key, group) for key, group in sorted(groups.items())]


def _summarise_group(family: str, length: int, arm: str, lines: Sequence[Line]) -> Row:
    judged = sum(line.labels_judged for line in lines)
    costs = [line.cost_usd for line in lines if line.cost_usd is not None]
    return Row(
        family=family,
        length=length,
        arm=arm,
        score=bootstrap_mean([line.score for line in lines]),
        published=fmean(line.published for line in lines),
        finished=fmean(line.status in ("complete", "partial") for line in lines),
        partial=fmean(line.status == "partial" for line in lines),
        label_accuracy=sum(line.labels_right for line in lines) / judged if judged else None,
        labels_judged=judged,
        calls_p50=_p50_p95([line.calls for line in lines])[0],
        tokens=_p50_p95([line.tokens for line in lines]),
        cost_usd=_p50_p95(costs) if len(costs) == len(lines) else None,
        seconds=_p50_p95([line.elapsed_s for line in lines]),
        errors=Counter(line.error for line in lines if line.error),
    )


def _p50_p95(values: Sequence[float]) -> tuple[float, float]:
    ordered = sorted(values)
    return quantile(ordered, 0.5), quantile(ordered, 0.95)


@dataclass(frozen=True, slots=True)
class Difference:
    """``arm`` minus ``baseline`` over the items of both."""

    family: str
    length: int
    arm: str
    baseline: str
    score: Interval


def compare_arms(lines: Iterable[Line], baseline: str) -> list[Difference]:
    """Differences of all arms to a baseline, on the same items."""
    groups: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
    for line in lines:
        groups.setdefault((family_of(line), line.length), {}).setdefault(line.arm, {})[line.item] = line.score
    differences = []
    for (family, length), arms in sorted(groups.items()):
        theirs = arms.get(baseline, {})
        for arm, ours in sorted(arms.items()):
            both = sorted(ours.keys() & theirs.keys())
            if arm != baseline and both:
                interval = paired_difference([ours[item] for item in both], [theirs[item] for item in both])
                differences.append(Difference(family, length, arm, baseline, interval))
    return differences


def render_report(settings: Mapping[str, Any], lines: Sequence[Line], baseline: str | None = None) -> str:
    """Complete report. Scores are means with 95 % bootstrap intervals; ``published`` follows the benchmark's own rule."""
    rows = summarise(lines)
    parts = [_describe(settings, lines), _render_rows(rows)]
    arms = sorted({line.arm for line in lines})
    if len(arms) > 1:
        parts.append(_render_differences(compare_arms(lines, baseline or arms[0]), baseline or arms[0]))
    failed = Counter((line.arm, line.error, line.message or "") for line in lines if line.error)
    if failed:
        listed = [f"- {count} x {arm}: {error}: {message}" for (arm, error, message), count in failed.most_common(10)]
        parts.append("### Errors\n\n" + "\n".join(listed))
    return "\n\n".join(parts) + "\n"


def _describe(settings: Mapping[str, Any], lines: Sequence[Line]) -> str:
    models = {line.arm: ", ".join(line.models) for line in lines}
    options = ", ".join(f"{name}={value}" for name, value in settings.items() if value not in (None, {}, []))
    named = "\n".join(f"- `{arm}`: {names}" for arm, names in sorted(models.items()))
    scorers = ", ".join(sorted({line.scorer for line in lines}))
    return f"{len(lines)} results. Scorers: {scorers}. Settings: {options}.\n\n{named}"


def _interval(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if interval.low is None or interval.high is None:
        return f"{interval.mean:{sign}.3f}"
    return f"{interval.mean:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def _labels(row: Row) -> str:
    return "-" if row.label_accuracy is None else f"{row.label_accuracy:.1%} of {row.labels_judged:,}"


_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("task", lambda row: row.family),
    ("tokens in", lambda row: format_length(row.length)),
    ("arm", lambda row: row.arm),
    ("n", lambda row: str(row.score.n)),
    ("score [95 %]", lambda row: _interval(row.score)),
    ("published", lambda row: f"{row.published:.3f}"),
    ("labels right", _labels),
    ("finished", lambda row: f"{row.finished:.0%}"),
    ("partial", lambda row: f"{row.partial:.0%}"),
    ("calls p50", lambda row: f"{row.calls_p50:.0f}"),
    ("tokens p50 / p95", lambda row: f"{row.tokens[0]:,.0f} / {row.tokens[1]:,.0f}"),
    ("$ p50 / p95", lambda row: f"{row.cost_usd[0]:.4f} / {row.cost_usd[1]:.4f}" if row.cost_usd else "unknown"),
    ("s p50 / p95", lambda row: f"{row.seconds[0]:.1f} / {row.seconds[1]:.1f}"),
    ("errors", lambda row: ", ".join(f"{count} {kind}" for kind, count in row.errors.items()) or "-"),
)


def _render_rows(rows: Sequence[Row]) -> str:
    return table([name for name, _ in _COLUMNS], [[show(row) for _, show in _COLUMNS] for row in rows])


def _render_differences(differences: Sequence[Difference], baseline: str) -> str:
    if not differences:
        return f"No items in common with `{baseline}`."
    rows = [
        [row.family, format_length(row.length), row.arm, str(row.score.n), _interval(row.score, signed=True)]
        for row in differences
    ]
    return f"### Against `{baseline}`, on the same items\n\n" + table(
        ["task", "tokens in", "arm", "n", "difference [95 %]"], rows
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table with aligned columns."""
    cells = [list(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def format_length(tokens: int) -> str:
    """Length as ``32K`` or ``1M``, or the plain number of tokens."""
    for unit, name in ((1 << 20, "M"), (1 << 10, "K")):
        if tokens >= unit and tokens % unit == 0:
            return f"{tokens // unit}{name}"
    return f"{tokens:,}"
