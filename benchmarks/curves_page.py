"""Draws the curves of ``benchmarks.curves`` as one HTML page without scripts: a chart and a table for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 340, 64, 16, 120, 44
COLORS = ("#d97706", "#7c3aed", "#db2777", "#0891b2", "#65a30d")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 720px; margin: 2em auto; padding: 0 1em; color: #1f2937 }
svg { width: 100%; height: auto }
text { font: 12px system-ui, sans-serif; fill: #4b5563 }
table { border-collapse: collapse; margin: 0.5em 0 2em }
td, th { text-align: right; padding: 2px 12px; border-bottom: 1px solid #e5e7eb }
.grid { stroke: #e5e7eb }
.ours { stroke: #2563eb; fill: none; stroke-width: 2.5 }
.ideal { stroke: #6b7280; fill: none; stroke-width: 1.5; stroke-dasharray: 5 4 }
"""


@dataclass(frozen=True)
class Point:
    """One measured size. ``label`` is shown at the axis. ``ideal_s`` is None if no ideal was measured."""

    size: float
    label: str
    seconds: float
    ideal_s: float | None
    note: str = ""

    @property
    def ratio(self) -> str:
        return f"{self.seconds / self.ideal_s:.2f}" if self.ideal_s else ""


@dataclass(frozen=True)
class Curve:
    """A curve: time over a size. ``peers`` are the times of other engines at some sizes."""

    title: str
    axis: str
    ideal: str
    points: Sequence[Point]
    peers: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def draw_page(curves: Iterable[Curve], about: str) -> str:
    """The page."""
    body = "\n".join(f"<h2>{escape(curve.title)}</h2>\n{draw(curve)}\n{table(curve)}" for curve in curves)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>How cost grows</title><style>{STYLE}</style>'
        f"<h1>How cost grows</h1><p>{escape(about)}</p>\n{body}</html>\n"
    )


def table(curve: Curve) -> str:
    rows = "".join(
        f"<tr><td>{escape(point.label)}</td><td>{point.seconds:.3f}</td>"
        f"<td>{'' if point.ideal_s is None else f'{point.ideal_s:.3f}'}</td><td>{point.ratio}</td>"
        f"<td>{escape(point.note)}</td></tr>"
        for point in curve.points
    )
    head = (
        f"<tr><th>{escape(curve.axis)}</th><th>seconds</th><th>{escape(curve.ideal)}</th><th>ratio</th><th></th></tr>"
    )
    return f"<table>{head}{rows}</table>"


def draw(curve: Curve) -> str:
    """The chart as SVG, with both axes logarithmic."""
    others = [point for points in curve.peers.values() for point in points]
    xs = [max(point.size, 0.5) for point in curve.points] + [x for x, _ in others]
    ys = [point.seconds for point in curve.points] + [point.ideal_s for point in curve.points if point.ideal_s]
    ys += [y for _, y in others]
    x_of = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    low, high = 10 ** math.floor(math.log10(min(ys))), 10 ** math.ceil(math.log10(max(ys) * 1.01))
    y_of = _scale(low, high, HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(curve.title)}">']
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        y = y_of(10.0**power)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} s</text>')
    for point in curve.points:
        x = x_of(max(point.size, 0.5))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{escape(point.label)}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(curve.axis)}</text>'
    )
    ours = [(x_of(max(point.size, 0.5)), y_of(point.seconds)) for point in curve.points]
    ideal = [(x_of(max(point.size, 0.5)), y_of(point.ideal_s)) for point in curve.points if point.ideal_s]
    parts += [_line(ours, "ours", "this engine"), _line(ideal, "ideal", curve.ideal)]
    for color, (name, places) in zip(COLORS, sorted(curve.peers.items()), strict=False):
        spots = [(x_of(x), y_of(y)) for x, y in places]
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in spots]
        parts.append(_name(spots, name))
    return "".join([*parts, "</svg>"])


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = math.log10(high / low) or 1.0
    return lambda value: start + (end - start) * math.log10(value / low) / span


def _line(places: Sequence[tuple[float, float]], kind: str, name: str) -> str:
    if not places:
        return ""
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="{kind}" points="{points}"/>{_name(places, name)}'


def _name(places: Sequence[tuple[float, float]], name: str) -> str:
    x, y = places[-1]
    return f'<text x="{x + 8:.1f}" y="{y + 4:.1f}">{escape(name)}</text>'
