"""The limits of a run: what ends it early, and what is left, for code in a REPL and for prompts."""

from __future__ import annotations

from rlm.core.budget import Budget
from rlm.core.ledger import Ledger
from rlm.core.values import frozen
from rlm.engine.spending.stop import Deadline, Stop
from rlm.prompts import budget_notice, reopened_notice

LOW_SHARE = 0.25  # of a limit: with less left, the model is notified


@frozen
class RunLimits:
    """The stop switch, the deadline that triggers it (None without a limit of seconds), and what is left."""

    stop: Stop
    deadline: Deadline | None
    remaining: Remaining


class Remaining:
    """Reads what is left from the ledger and the deadline of one run. ``deadline`` is None without a limit of seconds."""

    def __init__(self, budget: Budget, ledger: Ledger, deadline: Deadline | None) -> None:
        self._budget = budget
        self._ledger = ledger
        self._deadline = deadline

    def as_dict(self, turns_left: int) -> dict[str, float | None]:
        """The value of ``budget()``: what is left of each limit, None without such a limit."""
        seconds = None if self._deadline is None else round(self._deadline.left_s, 1)
        tools = {} if self._budget.tool_calls is None else {"tool_calls": self._ledger.left("tool_calls")}
        return {
            "usd": self._ledger.left("usd"),
            "tokens": self._ledger.left("tokens"),
            "calls": self._ledger.left("calls"),
            "seconds": seconds,
            "iterations": turns_left,
            **tools,
        }

    def allows(self, seconds: float) -> bool:
        """True if work of this duration leaves time for the last turn."""
        deadline = self._deadline
        return deadline is None or seconds + deadline.turn_s < deadline.left_s

    def notice(self) -> str:
        """A line about the limits that are low, or an empty string."""
        allowed = self._allowed()
        if not allowed:
            return ""
        left = self.as_dict(0)
        low = {
            limit: amount
            for limit in allowed
            if (amount := left[limit]) is not None and amount < LOW_SHARE * allowed[limit]
        }
        return budget_notice(low, allowed)

    def notice_at_reopening(self) -> str:
        """A line about what is left, before the run's time limit starts."""
        left = {
            limit: self._ledger.left(limit) if limit != "seconds" else amount
            for limit, amount in self._allowed().items()
        }
        return reopened_notice({limit: amount for limit, amount in left.items() if amount is not None})

    def _allowed(self) -> dict[str, float]:
        budget = self._budget
        allowed = {"usd": budget.usd, "tokens": budget.tokens, "calls": budget.calls, "seconds": budget.seconds}
        return {limit: amount for limit, amount in allowed.items() if amount is not None}
