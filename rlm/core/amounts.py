"""Amounts of calls, tokens and money, and the use of a limit."""

from __future__ import annotations

import math

from rlm.core.values import frozen

NANOS_PER_USD = 1_000_000_000  # dollars are counted in whole billionths, so that sums of any order are exact


@frozen
class Amounts:
    """The cost of calls, or a bound on it."""

    calls: int = 0
    tokens: int = 0
    nanos: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.calls + other.calls, self.tokens + other.tokens, self.nanos + other.nanos)

    def __sub__(self, other: Amounts) -> Amounts:
        return Amounts(self.calls - other.calls, self.tokens - other.tokens, self.nanos - other.nanos)

    @property
    def usd(self) -> float:
        return self.nanos / NANOS_PER_USD


def nanos_of(usd: float) -> int:
    """Dollars as whole billionths, rounded up: the count is never less than the payment."""
    return math.ceil(usd * NANOS_PER_USD - 1e-3)


@frozen
class LimitUse:
    """The use of one limit.

    Attributes:
        allowed, left: None if there is no such limit.
        assumed: the part of ``used`` that no provider reported. A call that was cut off after it was sent counts with its bound.
    """

    used: float
    allowed: float | None = None
    left: float | None = None
    assumed: float = 0.0


NOTHING = Amounts()
