"""The limits of a run, and amounts to compare with them. Pure arithmetic; ``core/ledger.py`` does the accounting."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from rlm.core.errors import ConfigurationError
from rlm.core.option import Bounds, show_given
from rlm.core.values import frozen

NANOS_PER_USD = 1_000_000_000  # dollars are counted in whole billionths, so that sums of any order are exact

_LEAST = {"usd": 0.0, "tokens": 1, "calls": 1, "seconds": 0.0, "iterations": 1, "depth": 0, "tool_calls": 0}


@frozen
class Budget:
    """The limits of one run, for its whole tree. None: no limit of that kind.

    A call is sent only if its worst case fits into the remaining budget, so nothing is overspent. One last turn of the root
    is reserved from the start, so a run that meets a limit still answers with what it has.

    Attributes:
        usd: dollars, at the dated price of each model. Needs known prices.
        tokens: tokens of all prompts and replies together, cached ones included.
        calls: model calls, turns and leaf calls together, at all depths.
        seconds: wall-clock time of the whole run.
        iterations: turns of each node, in place of ``max_iterations``.
        depth: levels of model calls below the root.
        tool_calls: executions of tools, at all depths.

    Raises:
        ConfigurationError: a limit is out of range.
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    iterations: int | None = None
    depth: int | None = None
    tool_calls: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None:
                continue
            positive = name in ("usd", "seconds")
            bounds = Bounds(above=0) if positive else Bounds(least=least, most=10**15)
            if not bounds.contains(value):
                rule = "a number, more than 0" if positive else f"a number, {least} or more"
                raise ConfigurationError(
                    f"`{name}` of a Budget must be {rule}, or None for no limit; got {show_given(value)}."
                )

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that are set, by name."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}

    def updated(self, other: Budget) -> Budget:
        """The limits of ``other``, completed by those of this budget."""
        return replace(self, **other.limits)

    @property
    def counts_tokens(self) -> bool:
        """True if the size of a call matters, and not only the number of calls."""
        return self.usd is not None or self.tokens is not None


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


@frozen
class CallSizes:
    """The sizes of calls under a budget that counts tokens, unless the caller has set them.

    Attributes:
        output_tokens: the token limit of a reply.
        observation_bytes: the output of cells that the root's last turn can show at least.
    """

    output_tokens: int
    observation_bytes: int


# From a comfortable turn down to one that still fits a short program or answer.
SIZE_STEPS = (CallSizes(4_096, 4_000), CallSizes(2_048, 3_000), CallSizes(1_024, 2_000), CallSizes(512, 1_500))
# The share of a budget that the root's first turn and its reserved last turn can take together, so that some is left for work.
FRAME_SHARE = 0.25
