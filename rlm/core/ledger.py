"""The books of a budget: what is spent, what is held for calls under way, what is kept for last turns.

    spent + held + kept <= allowed      at every moment, in calls, tokens and dollars

A call is held at the most it can cost before it is sent, and settled at what it did cost. A node's turn is held together with
what its own last turn will need (``keep``), so that a node which meets a limit can still answer. Everything here decides at
once; who waits for what is ``engine/holds.py``'s affair.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from rlm.core.budget import NANOS_PER_USD, Amounts, Budget, LimitUse
from rlm.core.ids import NodeId

NOTHING = Amounts()


@dataclass(frozen=True, slots=True)
class Need:
    """What one call asks of the budget.

    Attributes:
        worst: the most that the call can cost.
        node: for a node's turn, the node: its own kept amount may be used.
        keep: what is kept for that node's last turn from then on; nothing where this is the last turn.
        final: the root's last turn, which is made even after the run was told to stop.
        ahead: nobody has come to this call yet: where it is refused, it is not known whether that leaves anything undone.
    """

    worst: Amounts
    node: NodeId | None = None
    keep: Amounts = NOTHING
    final: bool = False
    ahead: bool = False


@dataclass(eq=False, slots=True)
class Hold:
    """What is set aside for one call; settled exactly once."""

    need: Need
    open: bool = field(default=True)

    @property
    def worst(self) -> Amounts:
        return self.need.worst


class Ledger:
    """The books of one run."""

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
        self.overruns = 0
        self._kept: dict[NodeId, Amounts] = {}
        self.kept = NOTHING

    def lacking(self, need: Need, *, ignore_held: bool = False) -> str | None:
        """The first limit that the need does not fit into, or None. ``ignore_held``: as if calls under way cost nothing."""
        amounts = [self.spent, self.kept, need.worst, need.keep]
        if not ignore_held:
            amounts.append(self.held)
        own = NOTHING if need.node is None else self._kept.get(need.node, NOTHING)
        for limit, amount_of, allowed in self._limits:
            if sum(map(amount_of, amounts)) - amount_of(own) > allowed:
                return limit
        return None

    def hold(self, need: Need) -> Hold:
        """Sets the need aside. The caller has seen that nothing is lacking."""
        if need.node is not None:
            self.keep(need.node, need.keep)
        self.held = self.held + need.worst
        self.holds += 1
        return Hold(need)

    def settle(self, hold: Hold, cost: Amounts, *, assumed: bool = False) -> str | None:
        """Counts what the call did cost. Returns the limit whose hold was too small, if one was: a fault of a bound or price."""
        if not hold.open:
            raise ValueError("a hold is settled once")
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
        """Keeps an amount for a node's last turn, in place of what was kept for it."""
        self.kept = self.kept - self._kept.pop(node, NOTHING) + amounts
        if amounts != NOTHING:
            self._kept[node] = amounts

    def left(self, limit: str) -> float | None:
        """What calls may still take of ``usd``, ``tokens`` or ``calls``; None where there is no limit."""
        name = "nanos" if limit == "usd" else limit
        allowed = self._allowed[name]
        if allowed is None:
            return None
        taken = self.spent + self.held + self.kept
        left: int = max(0, allowed - getattr(taken, name))
        return left / NANOS_PER_USD if limit == "usd" else left

    def uses(self) -> dict[str, LimitUse]:
        """How far ``usd``, ``tokens`` and ``calls`` are used."""
        found = {}
        for limit, name in (("usd", "nanos"), ("tokens", "tokens"), ("calls", "calls")):
            unit = NANOS_PER_USD if limit == "usd" else 1
            used, allowed, assumed = getattr(self.spent, name), self._allowed[name], getattr(self.assumed, name)
            left = None if allowed is None else max(0, allowed - used)
            found[limit] = LimitUse(
                used / unit if limit == "usd" else used,
                allowed if allowed is None or limit != "usd" else allowed / unit,
                left if left is None or limit != "usd" else left / unit,
                assumed / unit if limit == "usd" else assumed,
            )
        return found
