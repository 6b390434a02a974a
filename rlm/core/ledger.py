"""The ledger of a budget: amounts spent, held for calls in flight, and kept in reserve for last turns.

    spent + held + kept <= allowed      at every moment, in calls, tokens and dollars.

A call reserves the most it can cost before it is sent, and settles at its real cost. A node's turn also reserves its own last
turn (``keep``), so that a node which meets a limit can still answer. Every decision is immediate: waiting for budget is the
business of ``engine/spending/reservations.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter

from rlm.core.amounts import NANOS_PER_USD, Amounts, LimitUse
from rlm.core.amounts import NOTHING as NOTHING
from rlm.core.budget import Budget
from rlm.core.ids import NodeId
from rlm.core.pool import Pool
from rlm.core.values import frozen


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
    """Amounts of one run against its limits, and against those of a shared budget (``pool``)."""

    def __init__(self, budget: Budget, pool: Pool | None = None) -> None:
        self.budget = budget
        self.pool = pool
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
        if self.pool is None:
            return None
        return self.pool.lacking(need.worst + need.keep - own, ignore_held=ignore_held)

    def try_hold(self, need: Need) -> Hold | None:
        """Reserves the need if nothing is lacking; otherwise None. Other runs can take from a shared budget at any moment."""
        if self.lacking(need) is not None:
            return None
        own = NOTHING if need.node is None else self._kept.get(need.node, NOTHING)
        if self.pool is not None and not self.pool.take(need.worst, need.keep - own):
            return None
        return self.hold(need)

    def hold(self, need: Need) -> Hold:
        """Reserves the need in this ledger. The caller has checked that nothing is lacking, and has taken it from the pool."""
        if need.node is not None:
            self._keep(need.node, need.keep)
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
        if self.pool is not None:
            self.pool.settle(hold.worst, cost)
        return over

    def keep(self, node: NodeId, amounts: Amounts) -> None:
        """Sets the reserve for a node's last turn."""
        change = amounts - self._kept.get(node, NOTHING)
        self._keep(node, amounts)
        if self.pool is not None and change != NOTHING:
            self.pool.keep(change)

    def _keep(self, node: NodeId, amounts: Amounts) -> None:
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
        shared = None if self.pool is None else self.pool.uses().get(self.pool.spec.label(limit))
        allowed = self._allowed[name]
        if allowed is None:
            return None if shared is None else shared.left
        taken = self.spent + self.held + self.kept
        left: int = max(0, allowed - getattr(taken, name))
        own = left / NANOS_PER_USD if limit == "usd" else left
        return own if shared is None or shared.left is None else min(own, shared.left)

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
        return uses if self.pool is None else uses | self.pool.uses()
