"""The limits of a run, and the arithmetic that keeps them: what is held before a call is sent and settled after it."""

from __future__ import annotations

from dataclasses import dataclass

from rlm.core.errors import BudgetExceededError, ConfigurationError

FINAL_TURN_CALLS = 1  # held back from the start, so that a run that meets its limit can still answer


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one run, for its whole tree. None: no limit of that kind.

    Attributes:
        calls: model calls, turns and leaf calls together, at all depths. At least 1.
        iterations: turns of each node.
        depth: levels of model calls below the root.
    """

    calls: int | None = None
    iterations: int | None = None
    depth: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("calls", 1), ("iterations", 1), ("depth", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"Budget({name}={value}): must be at least {least}, or None for no limit.")


class Ledger:
    """Counts calls against the budget. One call is held for the root's last turn until that turn is made."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.calls = 0

    def spend_call(self, *, last_turn: bool = False) -> None:
        """Takes one call out of the budget.

        Raises:
            BudgetExceededError: when only what is held back is left.
        """
        allowed = self.budget.calls
        if allowed is not None and self.calls >= allowed - (0 if last_turn else FINAL_TURN_CALLS):
            raise BudgetExceededError(
                f"The budget of {allowed} model calls is used up ({self.calls} made). Answer with what there is.",
                limit="calls",
            )
        self.calls += 1
