"""Shared budgets: amounts that many runs spend together, in windows of time. Pure arithmetic over the usage of one pool.

    spent + held + kept <= allowed      at every moment, over all runs

as in the ledger of one run (``core/ledger.py``), which asks the pool before it reserves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from rlm.core.amounts import NANOS_PER_USD, NOTHING, Amounts, LimitUse
from rlm.core.errors import ConfigurationError

WINDOWS_S = {"minute": 60.0, "hour": 3_600.0, "day": 86_400.0, "week": 604_800.0}
UNITS = (("calls", "calls", 1), ("tokens", "tokens", 1), ("usd", "nanos", NANOS_PER_USD))
MARK = " (shared"
MOST = 1 << 62  # a larger amount fits no database


@dataclass(frozen=True, eq=False)
class BudgetPool:
    """The limits of a shared budget. Made by ``rlm.Budget.shared``; each object without a path is a budget of its own.

    Attributes:
        usd, tokens, calls: as in ``rlm.Budget``, for all runs together; None sets none.
        per_s: seconds after which the amounts are available again; None if they never are.
        name: names the budget in messages, and in its file.
        path: the file that processes share; None for this process.
    """

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    per_s: float | None = None
    name: str = ""
    path: str | None = None

    def __post_init__(self) -> None:
        limits = {"usd": self.usd, "tokens": self.tokens, "calls": self.calls, "per": self.per_s}
        if all(limits[name] is None for name in ("usd", "tokens", "calls")):
            raise ConfigurationError("`Budget.shared` must have a limit; got none. Give usd=, tokens= or calls=.")
        for name, value in limits.items():
            if value is not None and not (0 < value < MOST and math.isfinite(value)):
                raise ConfigurationError(f"`{name}` of a shared budget must be more than 0; got {value!r}.")

    @property
    def title(self) -> str:
        """The budget in a sentence, for instance "shared budget 'team'"."""
        return f"shared budget {self.name!r}" if self.name else "shared budget"

    def label(self, limit: str) -> str:
        """The name of one of its limits, for instance "usd (shared: team)"."""
        return f"{limit}{MARK}: {self.name})" if self.name else f"{limit}{MARK})"

    @property
    def limits(self) -> dict[str, float | None]:
        """The limits by name, as in ``rlm.Budget``."""
        return {"usd": self.usd, "tokens": self.tokens, "calls": self.calls}

    @property
    def allowed(self) -> dict[str, int | None]:
        """The limits in the units of ``Amounts``, by its fields."""
        nanos = None if self.usd is None else int(self.usd * NANOS_PER_USD)
        return {"calls": self.calls, "tokens": self.tokens, "nanos": nanos}

    def lacking(self, taken: Amounts) -> str | None:
        """The label of the first limit that an amount exceeds, or None."""
        allowed = self.allowed
        for limit, name, _ in UNITS:
            most = allowed[name]
            if most is not None and getattr(taken, name) > most:
                return self.label(limit)
        return None

    def uses(self, spent: Amounts, taken: Amounts) -> dict[str, LimitUse]:
        """The use of its limits by label. ``taken`` counts reservations too."""
        uses = {}
        for limit, name, unit in UNITS:
            most = self.allowed[name]
            if most is not None:
                used, left = getattr(spent, name), max(0, most - getattr(taken, name))
                uses[self.label(limit)] = (
                    LimitUse(used, most, left) if unit == 1 else LimitUse(used / unit, most / unit, left / unit)
                )
        return uses


def is_shared(limit: str | None) -> bool:
    """True for the label of a shared budget's limit."""
    return limit is not None and MARK in limit


def window_seconds(per: str | float | None) -> float | None:
    """The length of a window: a name, or seconds.

    Raises:
        ConfigurationError: there is no window of that name.
    """
    if isinstance(per, str):
        if per not in WINDOWS_S:
            raise ConfigurationError(f"`per` must be one of {', '.join(WINDOWS_S)}, or seconds; got {per!r}.")
        return WINDOWS_S[per]
    return per


class Pool(Protocol):
    """The usage of one shared budget, from all runs. ``polls`` is True if other processes use it too."""

    spec: BudgetPool
    polls: bool

    def lacking(self, amounts: Amounts, *, ignore_held: bool = False) -> str | None:
        """The label of the first limit that further amounts exceed, or None. ``ignore_held`` leaves out calls in flight."""
        ...

    def take(self, held: Amounts, kept: Amounts) -> bool:
        """Reserves amounts for a call, and changes what is kept for last turns. False, and nothing changes, if it lacks them."""
        ...

    def settle(self, held: Amounts, cost: Amounts) -> None:
        """Replaces a reservation by its cost."""
        ...

    def keep(self, change: Amounts) -> None:
        """Changes what is kept for last turns."""
        ...

    def uses(self) -> dict[str, LimitUse]:
        """The use of its limits, by label."""
        ...

    def listen(self, freed: Callable[[], None]) -> None:
        """Calls ``freed`` when amounts become free, once."""
        ...


def left_of(pool: Pool) -> dict[str, float | None]:
    """The rest of the limits of a shared budget, by their names in ``rlm.Budget``."""
    uses = pool.uses()
    return {name: use.left for name in pool.spec.limits if (use := uses.get(pool.spec.label(name))) is not None}


@dataclass(eq=False)
class MemoryPool:
    """The usage of a shared budget in this process. ``now`` gives its time in seconds.

    A window begins with the first use after the previous one. Calls in flight at its end count for the next one.
    """

    spec: BudgetPool
    now: Callable[[], float]
    polls: bool = False
    _began: float | None = None
    _spent: Amounts = NOTHING
    _held: Amounts = NOTHING
    _kept: Amounts = NOTHING
    _listeners: list[Callable[[], None]] = field(default_factory=list)

    def lacking(self, amounts: Amounts, *, ignore_held: bool = False) -> str | None:
        self._renew()
        taken = self._spent + self._kept + amounts
        return self.spec.lacking(taken if ignore_held else taken + self._held)

    def take(self, held: Amounts, kept: Amounts) -> bool:
        if self.lacking(held + kept) is not None:
            return False
        self._held, self._kept = self._held + held, self._kept + kept
        return True

    def settle(self, held: Amounts, cost: Amounts) -> None:
        self._renew()
        self._held, self._spent = self._held - held, self._spent + cost
        self._wake()

    def keep(self, change: Amounts) -> None:
        self._kept = self._kept + change
        self._wake()

    def uses(self) -> dict[str, LimitUse]:
        self._renew()
        return self.spec.uses(self._spent, self._spent + self._held + self._kept)

    def listen(self, freed: Callable[[], None]) -> None:
        if freed not in self._listeners:
            self._listeners.append(freed)

    def _renew(self) -> None:
        now = self.now()
        if self._began is None or (self.spec.per_s is not None and now - self._began >= self.spec.per_s):
            self._began, self._spent = now, NOTHING

    def _wake(self) -> None:
        listeners, self._listeners = self._listeners, []
        for freed in listeners:
            freed()
