"""The limits of a run, and amounts to compare with them. Pure arithmetic; ``core/ledger.py`` does the accounting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rlm.core.amounts import NANOS_PER_USD as NANOS_PER_USD
from rlm.core.amounts import Amounts as Amounts
from rlm.core.amounts import LimitUse as LimitUse
from rlm.core.amounts import nanos_of as nanos_of
from rlm.core.errors import ConfigurationError
from rlm.core.option import Bounds, show_given
from rlm.core.pool import BudgetPool, window_seconds
from rlm.core.values import frozen

if TYPE_CHECKING:
    from os import PathLike

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
        pool: a budget that many runs share, see ``shared``.

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
    pool: BudgetPool | None = None

    @staticmethod
    def shared(
        *,
        usd: float | None = None,
        tokens: int | None = None,
        calls: int | None = None,
        per: str | float | None = None,
        name: str = "",
        path: str | PathLike[str] | None = None,
    ) -> Budget:
        """Returns a budget that all runs with it share: of any number of ``RLM`` objects, and of processes with ``path``.

        Each call reserves its worst case from it too. A run that it refuses ends as with a limit of its own: with a partial
        answer, its ``limit`` for instance ``"usd (shared: team)"``. Limits of a run's own are added by
        ``Budget(calls=50).within(shared)``. Wall-clock time is not shared: give each run its ``seconds``.

        Args:
            usd, tokens, calls: limits of all runs together.
            per: "minute", "hour", "day", "week" or seconds, after which the amounts are available again. A window begins
                with the first use after the previous one. None: the amounts are never available again.
            name: names the budget in messages, and among those of one file.
            path: a SQLite file, made if needed, which keeps the usage over processes and restarts. Without it, every object
                that this function returns is a budget of its own, and lives as long as its process.

        Raises:
            ConfigurationError: there is no limit, or an argument is out of range.
        """
        place = None if path is None else str(path)
        return Budget(pool=BudgetPool(usd, tokens, calls, window_seconds(per), name, place))

    def within(self, shared: Budget) -> Budget:
        """Returns these limits for each run, and those of a shared budget for all runs together.

        Raises:
            ConfigurationError: the argument is not a shared budget.
        """
        if getattr(shared, "pool", None) is None:
            raise ConfigurationError(
                f"`shared` must be a shared budget; got {shared!r}. Make it with Budget.shared(...)."
            )
        return replace(self, pool=shared.pool)

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
        return {name: limit for name in _LEAST if (limit := getattr(self, name)) is not None}

    def updated(self, other: Budget) -> Budget:
        """The limits of ``other``, completed by those of this budget."""
        return replace(self, **other.limits)

    def tightened(self, left: Mapping[str, float | None]) -> Budget:
        """These limits, lowered to what is left of a shared budget by name. Nothing left is the smallest limit."""
        least = {"usd": 1e-9, "tokens": 1, "calls": 1}
        limits: dict[str, Any] = {}
        for name, smallest in least.items():
            amounts = [value for value in (getattr(self, name), left.get(name)) if value is not None]
            if amounts:
                limits[name] = max(smallest, min(amounts))
        return replace(self, **limits)

    @property
    def counts_tokens(self) -> bool:
        """True if the size of a call matters, and not only the number of calls."""
        return self.usd is not None or self.tokens is not None


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
