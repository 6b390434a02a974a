"""Labels of places in documents: pages, sheets and their rows, lines. Rows and lines are counted from the nearest label."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence

_COUNTED = re.compile(r"(.*\b(?P<unit>row|line) )(\d+)", re.DOTALL)


def label_at(starts: Sequence[int], labels: Sequence[str], text: str, offset: int) -> str:
    """Label of the place at an offset.

    Args:
        starts, labels: offsets of the labelled places, in order, and their labels. Without any, places are lines.
        text: the whole text.
    """
    if not starts:
        return f"line {text.count(chr(10), 0, offset) + 1}"
    at = max(bisect_right(starts, offset) - 1, 0)
    counted = _COUNTED.fullmatch(labels[at])
    if counted is None:
        return labels[at]
    return f"{counted[1]}{int(counted[3]) + _count(counted['unit'], text[starts[at] : max(offset, starts[at])])}"


def _count(unit: str, passed: str) -> int:
    if unit == "line":
        return passed.count("\n")
    return sum(part.count("\n") for part in passed.split('"')[::2])  # a quoted cell can hold line ends
