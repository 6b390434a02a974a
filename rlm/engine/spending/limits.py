"""What a run has left, as code in a REPL and the prompts are told it."""

from __future__ import annotations

from dataclasses import dataclass

from rlm.core.budget import Budget
from rlm.core.ledger import Ledger
from rlm.engine.spending.stop import Deadline, Stop
from rlm.prompts import budget_notice, reopened_notice

SCARCE_SHARE = 0.25  # from here on the model is told


@dataclass(frozen=True, slots=True)
class RunLimits:
    """What ends a run early: the switch, and the deadline that throws it in time (None without a limit of seconds)."""

    stop: Stop
    deadline: Deadline | None
    remaining: Remaining


class Remaining:
    """Reads the books and the clock of one run. ``deadline`` is None without a limit of seconds."""

    def __init__(self, budget: Budget, ledger: Ledger, deadline: Deadline | None) -> None:
        self._budget = budget
        self._ledger = ledger
        self._deadline = deadline

    def as_dict(self, turns_left: int) -> dict[str, float | None]:
        """What ``budget()`` returns: for each limit what is left, None where there is no such limit."""
        seconds = None if self._deadline is None else round(self._deadline.left_s, 1)
        return {
            "usd": self._ledger.left("usd"),
            "tokens": self._ledger.left("tokens"),
            "calls": self._ledger.left("calls"),
            "seconds": seconds,
            "iterations": turns_left,
        }

    def notice(self) -> str:
        """A line about what has become scarce, or nothing."""
        known = self._allowed()
        if not known:
            return ""
        now = self.as_dict(0)
        scarce = {
            limit: left for limit in known if (left := now[limit]) is not None and left < SCARCE_SHARE * known[limit]
        }
        return budget_notice(scarce, known)

    def notice_at_reopening(self) -> str:
        """A line about what there is, before the clock of the run is started."""
        left = {
            limit: self._ledger.left(limit) if limit != "seconds" else amount
            for limit, amount in self._allowed().items()
        }
        return reopened_notice({limit: amount for limit, amount in left.items() if amount is not None})

    def _allowed(self) -> dict[str, float]:
        budget = self._budget
        allowed = {"usd": budget.usd, "tokens": budget.tokens, "calls": budget.calls, "seconds": budget.seconds}
        return {limit: amount for limit, amount in allowed.items() if amount is not None}
