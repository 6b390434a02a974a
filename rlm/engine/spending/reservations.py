"""Who may take from the budget, and who waits: the ledger's decisions, awaited.

A call that does not fit waits while calls under way may still settle for less than they hold, in the order of asking; it is
refused as soon as nothing under way could free enough. Nobody waits while holding anything, and calls always end, so this
cannot deadlock.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from rlm.core.budget import Amounts
from rlm.core.errors import BudgetExceededError
from rlm.core.ids import NodeId
from rlm.core.ledger import NOTHING, Hold, Ledger, Need
from rlm.engine.spending.stop import Stop


class Reservations:
    """The budget of one run, as its calls see it. ``refused`` counts the calls that each limit forbade and that were needed."""

    def __init__(self, ledger: Ledger, stop: Stop) -> None:
        self.ledger = ledger
        self.refused: Counter[str] = Counter()
        self._refused_turns = 0
        self._stop = stop
        self._waiting: deque[tuple[Need, asyncio.Future[Hold]]] = deque()
        stop.tells(lambda _: self._go_on())

    async def take(self, need: Need) -> Hold:
        """Reservations what a call may cost at most.

        Raises:
            BudgetExceededError: it does not fit, and nothing under way could change that.
        """
        if (error := self._refusal(need)) is not None:
            raise error
        if (need.final or not self._waiting) and self.ledger.lacking(need) is None:
            return self.ledger.hold(need)
        granted: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        entry = (need, granted)
        if need.final:
            self._waiting.appendleft(entry)
        else:
            self._waiting.append(entry)
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.settle(granted.result(), NOTHING)
            else:
                self._go_on()
            raise

    @property
    def refused_calls(self) -> int:
        """Those that were never made. A node's turn is not among them: its last one was made in its place."""
        return sum(self.refused.values()) - self._refused_turns

    def settle(self, hold: Hold, cost: Amounts, *, assumed: bool = False) -> None:
        """Counts what a call did cost. A hold that was too small means that a bound or a price is wrong: the run is stopped."""
        over = self.ledger.settle(hold, cost, assumed=assumed)
        if over is not None:
            self._stop.throw(over)
        self._go_on()

    def keep(self, node: NodeId, amounts: Amounts) -> None:
        """Keeps less for a node's last turn, now that more is known; nothing once the node has ended."""
        self.ledger.keep(node, amounts)
        self._go_on()

    def _refusal(self, need: Need) -> BudgetExceededError | None:
        limit = None if need.final else self._stop.limit
        if limit is None:
            limit = self.ledger.lacking(need, ignore_held=True)
        if limit is None:
            return None
        if not need.ahead:
            self.refused[limit] += 1
            self._refused_turns += need.node is not None
        return BudgetExceededError(self._explain(limit, need), limit=limit)

    def _explain(self, limit: str, need: Need) -> str:
        if limit not in ("usd", "tokens", "calls"):
            told = "The run is being finished" if limit == "stopped" else "The time is nearly up"
            return f"{told}: no more calls are made. Answer with what there is."
        use = self.ledger.uses()[limit]
        unit = {"usd": "$", "tokens": " tokens", "calls": " calls"}[limit]
        needed = {"usd": need.worst.usd, "tokens": need.worst.tokens, "calls": need.worst.calls}[limit]
        left = self.ledger.left(limit) or 0
        return (
            f"The budget of {_amount(use.allowed or 0, unit)} does not allow this call: it needs up to "
            f"{_amount(needed, unit)}, and {_amount(left, unit)} is left besides what is held for calls under way and for "
            "the last turn. Answer with what there is."
        )

    def _go_on(self) -> None:
        """Serves those who wait, in order: refuses what can never fit, grants what fits, stops where one may fit later."""
        while self._waiting:
            need, granted = self._waiting[0]
            if not granted.done():  # else its caller was cancelled meanwhile
                if (error := self._refusal(need)) is not None:
                    granted.set_exception(error)
                elif self.ledger.lacking(need) is None:
                    granted.set_result(self.ledger.hold(need))
                else:
                    return
            self._waiting.popleft()


def _amount(value: float, unit: str) -> str:
    return f"${value:.6g}" if unit == "$" else f"{value:,.0f}{unit}"
