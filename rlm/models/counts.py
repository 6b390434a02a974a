"""Plausibility of reported usage: a negative or absurd count is refused, so that no reply empties or refills a budget. Pure."""

from __future__ import annotations

import math

MAX_TOKENS = 50_000_000  # windows have at most ten million tokens
MAX_COST_USD = 1_000.0  # a full window at the highest published price costs less than 200 dollars


class AbsurdUsageError(ValueError):
    """A reported count cannot be true."""


def read_count(value: object) -> int:
    """A count of tokens; 0 if it is absent or not a number.

    Raises:
        AbsurdUsageError: it is negative, not finite or too large.
    """
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0
    if not 0 <= value <= MAX_TOKENS:
        raise AbsurdUsageError(f"a usage of {value:.6g} tokens")
    return int(value)


def read_cost(value: object) -> float | None:
    """A cost in dollars; None if it is absent or not a number.

    Raises:
        AbsurdUsageError: it is negative, not finite or too large.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not math.isfinite(value) or not 0 <= value <= MAX_COST_USD:
        raise AbsurdUsageError(f"a cost of {value:.6g} dollars in its usage")
    return float(value)
