"""Reading order of two-column pages whose producer wrote them line by line across both columns."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

_MAX_RECTS = 2_000
_MIN_LINES = 5  # of each column
_MIN_WIDTH = 0.27  # of the page; cells of tables are narrower than lines of prose
_GUTTER = (0.38, 0.62)  # of the page's width
_MAX_CHANGES = 0.4  # of all lines; a page in column order changes sides once or twice

Rect = tuple[float, float, float, float]
"""Left, bottom, right, top."""


def column_text(text_page: Any, width: float) -> str | None:
    """Text of a page in column order; None if its own order is fine, or if it has no two columns of prose."""
    count = text_page.count_rects()
    if not 2 * _MIN_LINES <= count <= _MAX_RECTS or width <= 0:
        return None
    rects: list[Rect] = [text_page.get_rect(number) for number in range(count)]
    order = reading_order(rects, width)
    if order is None:
        return None
    lines = [text_page.get_text_bounded(*rects[number]).strip() for number in order]
    return "\n".join(line for line in lines if line)


def reading_order(rects: list[Rect], width: float) -> list[int] | None:
    """Numbers of the rectangles in column order; None if the given order is to be kept.

    Lines across the whole page (titles, footers) divide it into bands; in each band the left column comes first.
    """
    gutter = _find_gutter(rects, width)
    if gutter is None:
        return None
    sides = [_side(rect, gutter) for rect in rects]
    left = [rect for rect, side in zip(rects, sides, strict=True) if side < 0]
    right = [rect for rect, side in zip(rects, sides, strict=True) if side > 0]
    if min(len(left), len(right)) < _MIN_LINES:
        return None
    if min(median(rect[2] - rect[0] for rect in column) for column in (left, right)) < _MIN_WIDTH * width:
        return None
    changes = sum(one * other < 0 for one, other in pairwise(sides))
    if changes < _MAX_CHANGES * len(rects):
        return None
    spanning = sorted((rect[3] for rect, side in zip(rects, sides, strict=True) if side == 0), reverse=True)

    def key(number: int) -> tuple[int, int, float, float]:
        rect, side = rects[number], sides[number]
        band = sum(top > rect[3] for top in spanning)
        return band, side if side else -2, -round(rect[3]), rect[0]

    return sorted(range(len(rects)), key=key)


def _find_gutter(rects: list[Rect], width: float) -> float | None:
    """The position near the middle that the fewest lines cross, if nearly none does."""
    best, crossings = None, len(rects)
    for step in range(25):
        x = width * (_GUTTER[0] + (_GUTTER[1] - _GUTTER[0]) * step / 24)
        crossed = sum(rect[0] < x < rect[2] for rect in rects)
        if crossed < crossings:
            best, crossings = x, crossed
    return best if best is not None and crossings <= max(3, 0.15 * len(rects)) else None


def _side(rect: Rect, gutter: float) -> int:
    if rect[2] <= gutter:
        return -1
    return 1 if rect[0] >= gutter else 0
