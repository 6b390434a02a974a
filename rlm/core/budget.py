"""The limits of a run, and what is counted against them. Pure arithmetic; ``core/ledger.py`` keeps the books."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from rlm.core.errors import ConfigurationError

LimitName: TypeAlias = Literal["usd", "tokens", "calls", "seconds", "iterations", "depth", "stopped"]
"""Which limit was met. ``stopped`` is the caller's own: he asked to finish with what there is."""

NANOS_PER_USD = 1_000_000_000  # dollars are counted in whole billionths, so that sums of any order are exact

_LEAST = {"usd": 0.0, "tokens": 1, "calls": 1, "seconds": 0.0, "iterations": 1, "depth": 0}


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one run, for its whole tree. None: no limit of that kind.

    A call is sent only when the most it can cost fits into what is left, and what one last turn of the root costs is held
    back from the start: so nothing is overspent, and a run that meets a limit still answers with what it has.

    Attributes:
        usd: dollars, at the dated price of each model. Needs known prices.
        tokens: of all prompts and replies together, cached ones included.
        calls: model calls, turns and leaf calls together, at all depths.
        seconds: wall-clock time of the whole run.
        iterations: turns of each node, in place of ``max_iterations``.
        depth: levels of model calls below the root.
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    seconds: float | None = None
    iterations: int | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None:
                continue
            positive = name in ("usd", "seconds")
            if not math.isfinite(value) or value < least or (positive and value <= 0):
                rule = "more than 0" if positive else f"at least {least}"
                raise ConfigurationError(f"Budget({name}={value}): must be {rule}, or None for no limit.")

    @property
    def limits(self) -> dict[str, Any]:
        """Those that there are, by name."""
        return {name: limit for name, limit in asdict(self).items() if limit is not None}

    def updated(self, other: Budget) -> Budget:
        """The limits of ``other``, and of kinds that it does not limit those there are."""
        return replace(self, **other.limits)

    @property
    def counts_tokens(self) -> bool:
        """Whether the size of a call matters, and not only that it is made."""
        return self.usd is not None or self.tokens is not None


@dataclass(frozen=True, slots=True)
class Amounts:
    """What calls cost, or may cost at most."""

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
    """Dollars as whole billionths, rounded up: what is counted is never less than what was paid."""
    return math.ceil(usd * NANOS_PER_USD - 1e-3)


@dataclass(frozen=True, slots=True)
class LimitUse:
    """How far one limit was used. ``allowed`` and ``left`` are None where there is none.

    ``assumed`` is the part of ``used`` that no provider reported: calls that were cut off after they were sent are counted with
    the most they can have cost.
    """

    used: float
    allowed: float | None = None
    left: float | None = None
    assumed: float = 0.0


@dataclass(frozen=True, slots=True)
class CallSizes:
    """How large calls may be under a budget that counts tokens, where the caller has not said so himself.

    ``observation_bytes``: what the root's last turn can show of its cells' output at least.
    """

    output_tokens: int
    observation_bytes: int


# From what a turn comfortably needs down to what still holds a short program or answer.
SIZE_STEPS = (CallSizes(4_096, 4_000), CallSizes(2_048, 3_000), CallSizes(1_024, 2_000), CallSizes(512, 1_500))
# Of a budget, what the root's first turn and the last one held back may take together at most, so that there is work to pay.
FRAME_SHARE = 0.25
