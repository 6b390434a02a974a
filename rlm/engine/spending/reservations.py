"""Budget reservations: applies the ledger's decisions, and queues the calls that have to wait for budget.

A call that does not fit waits while calls in flight can still settle for less than they reserved. Waiting calls are served in
order. A call is refused as soon as nothing in flight could free enough. A waiting call holds no reservation and calls always
end, so this cannot deadlock.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

from rlm.core.budget import Amounts
from rlm.core.errors import BudgetExceededError
from rlm.core.ids import NodeId
from rlm.core.ledger import NOTHING, Hold, Ledger, Need
from rlm.engine.spending.stop import Stop

POLL_S = 0.2  # between looks at a shared budget that other processes use


class Reservations:
    """The budget of one run as its calls see it. ``refused`` counts the calls that each limit refused."""

    def __init__(self, ledger: Ledger, stop: Stop) -> None:
        self.ledger = ledger
        self.refused: Counter[str] = Counter()
        self._refused_turns = 0
        self._stop = stop
        self._poll: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[Need, asyncio.Future[Hold]]] = deque()
        stop.on_stop(lambda _: self._serve_waiting())

    async def reserve(self, need: Need) -> Hold:
        """Reserve the most that a call can cost.

        Raises:
            BudgetExceededError: it does not fit, and no call in flight could free enough.
        """
        if (error := self._refusal(need)) is not None:
            raise error
        if (need.final or not self._waiting) and (hold := self.ledger.try_hold(need)) is not None:
            return hold
        granted: asyncio.Future[Hold] = asyncio.get_running_loop().create_future()
        entry = (need, granted)
        if need.final:
            self._waiting.appendleft(entry)
        else:
            self._waiting.append(entry)
        self._await_pool()
        try:
            return await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.settle(granted.result(), NOTHING)
            else:
                self._serve_waiting()
            raise

    def try_reserve(self, need: Need) -> Hold | None:
        """Reserve what fits now, or return None. Calls that wait for budget come first."""
        if self._waiting or self._stop.limit is not None:
            return None
        return self.ledger.try_hold(need)

    @property
    def refused_calls(self) -> int:
        """Leaf calls that were never made. A refused node turn does not count: its last turn was made instead."""
        return sum(self.refused.values()) - self._refused_turns

    def settle(self, hold: Hold, cost: Amounts, *, assumed: bool = False) -> None:
        """Replace a reservation by its cost. If it was too small, a bound or a price is wrong, and the run is stopped."""
        over = self.ledger.settle(hold, cost, assumed=assumed)
        if over is not None:
            self._stop.trigger(over)
        self._serve_waiting()

    def retain_for_last_turn(self, node: NodeId, amounts: Amounts) -> None:
        """Replace the amounts retained for a node's last turn, by ``NOTHING`` once the node has ended."""
        self.ledger.keep(node, amounts)
        self._serve_waiting()

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
        pool = self.ledger.pool
        if pool is not None and limit in (shared := pool.uses()):
            left = shared[limit].left or 0
            return (
                f"The {pool.spec.title} does not allow this call: {left:,.6g} of its {limit.partition(' ')[0]} are left, after "
                "the reservations of all its runs. Answer with what you have."
            )
        if limit not in ("usd", "tokens", "calls"):
            reason = "The run is being finished" if limit == "stopped" else "The time limit is close"
            return f"{reason}: no more calls are made. Answer with what you have."
        use = self.ledger.uses()[limit]
        unit = {"usd": "$", "tokens": " tokens", "calls": " calls"}[limit]
        needed = {"usd": need.worst.usd, "tokens": need.worst.tokens, "calls": need.worst.calls}[limit]
        left = self.ledger.left(limit) or 0
        return (
            f"The budget of {_format(use.allowed or 0, unit)} does not allow this call: it needs up to "
            f"{_format(needed, unit)}, and {_format(left, unit)} is left after the reservations for calls in flight and for "
            "the last turn. Answer with what you have."
        )

    def _serve_waiting(self) -> None:
        """Refuse what can never fit and grant what fits, in order, up to the first call that has to wait on."""
        while self._waiting:
            need, granted = self._waiting[0]
            if not granted.done():  # otherwise cancelled while it waited
                if (error := self._refusal(need)) is not None:
                    granted.set_exception(error)
                elif (hold := self.ledger.try_hold(need)) is not None:
                    granted.set_result(hold)
                else:
                    self._await_pool()
                    return
            self._waiting.popleft()

    def _await_pool(self) -> None:
        """Serves the waiting calls again when other runs, or other processes, free a part of a shared budget."""
        pool = self.ledger.pool
        if pool is None:
            return
        pool.listen(self._serve_waiting)
        if pool.polls and (self._poll is None or self._poll.when() <= asyncio.get_running_loop().time()):
            self._poll = asyncio.get_running_loop().call_later(POLL_S, self._serve_waiting)


def _format(value: float, unit: str) -> str:
    return f"${value:.6g}" if unit == "$" else f"{value:,.0f}{unit}"
