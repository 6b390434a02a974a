"""Score and cost over length as one SVG file, without a library or a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from rlm_evals.report import Row, format_length

WIDTH, HEIGHT = 460, 300  # of one panel
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 40
LEGEND_LINE = 18
# Okabe and Ito's colours, safe for colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")


@dataclass(frozen=True, slots=True)
class Point:
    """Mean at one length, with its interval if known."""

    length: int
    value: float
    low: float | None = None
    high: float | None = None


Series = dict[str, list[Point]]
"""Points of each arm, by length."""


def draw_report(rows: Sequence[Row], title: str = "") -> str:
    """SVG with two panels: score with its 95 % interval, and median cost in dollars, or in tokens if a price is unknown."""
    priced = all(row.cost_usd is not None for row in rows) and any(row.cost_usd and row.cost_usd[0] for row in rows)
    scores: Series = {}
    costs: Series = {}
    for row in sorted(rows, key=lambda row: row.length):
        point = Point(row.length, row.score.mean, row.score.low, row.score.high)
        scores.setdefault(row.arm, []).append(point)
        cost = row.cost_usd[0] if priced and row.cost_usd else row.tokens[0]
        costs.setdefault(row.arm, []).append(Point(row.length, cost))
    arms = sorted(scores)
    height = HEIGHT + LEGEND_LINE * (len(arms) + 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{2 * WIDTH}" height="{height}" fill="#ffffff"/>',
        _panel(0, f"score{f', {title}' if title else ''}", scores, _linear(0.0, 1.0), "%.2f"),
        _panel(WIDTH, "median cost, dollars" if priced else "median tokens", costs, _logarithmic(costs), "%.3g"),
        *(_legend(number, arm) for number, arm in enumerate(arms)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class Scale:
    """Axis from 0 (bottom) to 1 (top), with labelled ticks."""

    place: Callable[[float], float]
    ticks: tuple[float, ...]


def _linear(low: float, high: float) -> Scale:
    return Scale(lambda value: (value - low) / (high - low), tuple(low + (high - low) * step / 5 for step in range(6)))


def _logarithmic(series: Series) -> Scale:
    values = [point.value for points in series.values() for point in points if point.value > 0] or [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    return Scale(
        lambda value: (math.log10(max(value, 10.0**low)) - low) / (high - low),
        tuple(10.0**power for power in range(low, high + 1)),
    )


def _panel(offset: int, title: str, series: Series, scale: Scale, form: str) -> str:
    lengths = sorted({point.length for points in series.values() for point in points})
    first, last = math.log2(lengths[0]), math.log2(lengths[-1])

    def x(length: int) -> float:
        share = 0.5 if first == last else (math.log2(length) - first) / (last - first)
        return offset + LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - scale.place(value)) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text x="{offset + LEFT}" y="18" font-weight="bold">{escape(title)}</text>']
    parts += [
        f'<line x1="{offset + LEFT}" x2="{offset + WIDTH - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#dddddd"/>'
        f'<text x="{offset + LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{form % tick}</text>'
        for tick in scale.ticks
    ]
    for length in lengths:
        label = format_length(length)
        parts.append(f'<text x="{x(length):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>')
    middle = offset + (WIDTH + LEFT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">tokens in the context</text>')
    for number, arm in enumerate(sorted(series)):
        parts.append(_line(series[arm], COLOURS[number % len(COLOURS)], x, y))
    return "\n".join(parts)


def _line(points: Sequence[Point], colour: str, x: Callable[[int], float], y: Callable[[float], float]) -> str:
    path = " ".join(f"{x(point.length):.1f},{y(point.value):.1f}" for point in points)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for point in points:
        parts.append(f'<circle cx="{x(point.length):.1f}" cy="{y(point.value):.1f}" r="3" fill="{colour}"/>')
        if point.low is not None and point.high is not None:
            at = f'x1="{x(point.length):.1f}" x2="{x(point.length):.1f}"'
            parts.append(f'<line {at} y1="{y(point.low):.1f}" y2="{y(point.high):.1f}" stroke="{colour}"/>')
    return "\n".join(parts)


def _legend(number: int, arm: str) -> str:
    y = HEIGHT + LEGEND_LINE * (number + 1)
    colour = COLOURS[number % len(COLOURS)]
    return (
        f'<rect x="{LEFT}" y="{y - 9}" width="14" height="4" fill="{colour}"/>'
        f'<text x="{LEFT + 22}" y="{y - 3}">{escape(arm)}</text>'
    )
