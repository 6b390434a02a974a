"""The ledger of a budget: amounts spent, held for calls in flight, and kept in reserve for last turns.

    spent + held + kept <= allowed      at every moment, in calls, tokens and dollars.

A call reserves the most it can cost before it is sent, and settles at its real cost. A node's turn also reserves its own last
turn (``keep``), so that a node which meets a limit can still answer. Every decision is immediate: waiting for budget is the
business of ``engine/spending/reservations.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from rlm.core.budget import NANOS_PER_USD, Amounts, Budget, LimitUse
from rlm.core.ids import NodeId
from rlm.core.values import frozen

NOTHING = Amounts()


@frozen
class Need:
    """The amounts that one call reserves.

    Attributes:
        worst: the most that the call can cost.
        node: the node whose turn this is; its own reserve counts as available.
        keep: the reserve for that node's last turn from now on; nothing for the last turn itself.
        final: the root's last turn, which is made even after the run was stopped.
        ahead: a prefetch; a refusal does not yet leave any work undone.
    """

    worst: Amounts
    node: NodeId | None = None
    keep: Amounts = NOTHING
    final: bool = False
    ahead: bool = False


@dataclass(eq=False, slots=True)
class Hold:
    """The reservation of one call, settled exactly once."""

    need: Need
    open: bool = field(default=True)

    @property
    def worst(self) -> Amounts:
        return self.need.worst


class Ledger:
    """Amounts of one run against its limits."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        usd = None if budget.usd is None else int(budget.usd * NANOS_PER_USD)
        self._allowed = {"calls": budget.calls, "tokens": budget.tokens, "nanos": usd}
        fields = (("calls", "calls"), ("tokens", "tokens"), ("usd", "nanos"))
        self._limits = [
            (limit, attrgetter(name), allowed) for limit, name in fields if (allowed := self._allowed[name]) is not None
        ]
        self.spent = NOTHING
        self.assumed = NOTHING
        self.held = NOTHING
        self.holds = 0
        self.tool_calls = 0
        self.overruns = 0
        self._kept: dict[NodeId, Amounts] = {}
        self.kept = NOTHING

    def lacking(self, need: Need, *, ignore_held: bool = False) -> str | None:
        """Returns the first limit that the need exceeds, or None. ``ignore_held`` leaves out calls in flight."""
        amounts = [self.spent, self.kept, need.worst, need.keep]
        if not ignore_held:
            amounts.append(self.held)
        own = NOTHING if need.node is None else self._kept.get(need.node, NOTHING)
        for limit, amount_of, allowed in self._limits:
            if sum(map(amount_of, amounts)) - amount_of(own) > allowed:
                return limit
        return None

    def hold(self, need: Need) -> Hold:
        """Reserves the need. The caller has checked that nothing is lacking."""
        if need.node is not None:
            self.keep(need.node, need.keep)
        self.held = self.held + need.worst
        self.holds += 1
        return Hold(need)

    def settle(self, hold: Hold, cost: Amounts, *, assumed: bool = False) -> str | None:
        """Replaces a reservation by the real cost.

        Returns the limit that the reservation underestimated, if any: then a bound or a price is wrong.
        """
        if not hold.open:
            raise ValueError("a hold must be settled once; this one was settled before")
        hold.open = False
        self.held = self.held - hold.worst
        self.holds -= 1
        self.spent = self.spent + cost
        if assumed:
            self.assumed = self.assumed + cost
        over = None
        if self._allowed["tokens"] is not None and cost.tokens > hold.worst.tokens:
            over = "tokens"
        elif self._allowed["nanos"] is not None and cost.nanos > hold.worst.nanos:
            over = "usd"
        self.overruns += over is not None
        return over

    def keep(self, node: NodeId, amounts: Amounts) -> None:
        """Sets the reserve for a node's last turn."""
        self.kept = self.kept - self._kept.pop(node, NOTHING) + amounts
        if amounts != NOTHING:
            self._kept[node] = amounts

    def take_tool_call(self) -> bool:
        """Counts the execution of a tool. False, and nothing is counted, if the limit is met."""
        allowed = self.budget.tool_calls
        if allowed is not None and self.tool_calls >= allowed:
            return False
        self.tool_calls += 1
        return True

    def left(self, limit: str) -> float | None:
        """Returns the part of a limit that calls can still use; None without a limit."""
        if limit == "tool_calls":
            return None if self.budget.tool_calls is None else max(0, self.budget.tool_calls - self.tool_calls)
        name = "nanos" if limit == "usd" else limit
        allowed = self._allowed[name]
        if allowed is None:
            return None
        taken = self.spent + self.held + self.kept
        left: int = max(0, allowed - getattr(taken, name))
        return left / NANOS_PER_USD if limit == "usd" else left

    def uses(self) -> dict[str, LimitUse]:
        """Returns the use of ``usd``, ``tokens`` and ``calls``, and of ``tool_calls`` if there are any."""
        uses = {}
        allowed_tools = self.budget.tool_calls
        if self.tool_calls or allowed_tools is not None:
            uses["tool_calls"] = LimitUse(self.tool_calls, allowed_tools, self.left("tool_calls"))
        for limit, name in (("usd", "nanos"), ("tokens", "tokens"), ("calls", "calls")):
            unit = NANOS_PER_USD if limit == "usd" else 1
            used, allowed, assumed = getattr(self.spent, name), self._allowed[name], getattr(self.assumed, name)
            left = None if allowed is None else max(0, allowed - used)
            uses[limit] = LimitUse(
                used / unit if limit == "usd" else used,
                allowed if allowed is None or limit != "usd" else allowed / unit,
                left if left is None or limit != "usd" else left / unit,
                assumed / unit if limit == "usd" else assumed,
            )
        return uses
