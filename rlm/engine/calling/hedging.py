"""Hedged calls: a second request for a call of a batch that takes far longer than its siblings. The first answer wins.

A hedge needs a batch of which most calls have answered, a free slot, and budget for its own worst case. The loser is cancelled,
and its cost is assumed. One timer watches a whole batch, so that a call in time costs one dictionary entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field

from rlm.core.errors import ModelError
from rlm.core.ledger import Hold
from rlm.core.messages import Reply
from rlm.engine.calling.call import Call
from rlm.ports import Scheduler, Slot

MAX_SHARE = 0.02  # hedges of the calls of a batch; one is always allowed
FIRST_CHECK_S = 1.0
CHECK_S = 0.25  # between checks of a batch that has too few answers, or no room for a hedge


@dataclass(eq=False, slots=True)
class Attempt:
    """An attempt of a batch's call, in flight.

    Attributes:
        timeout: its deadline; a hedge that answers ends it.
        hedge: its second request.
        reply: the hedge's reply, if it was first.
    """

    call: Call
    slot: Slot
    timeout: asyncio.Timeout
    sent_at: float
    batch: Batch
    hedge: Hedge | None = None
    reply: Reply | None = None


@dataclass(eq=False, slots=True)
class Hedge:
    """A second request in flight, with its own slot and reservation."""

    slot: Slot
    hold: Hold
    task: asyncio.Task[None] | None = None


@dataclass(eq=False, slots=True)
class Batch:
    """The calls of one batch. ``sent`` and ``hedges`` count its requests so far."""

    key: Hashable
    open: dict[Attempt, None] = field(default_factory=dict)
    sent: int = 0
    answered: int = 0
    hedges: int = 0
    timer: asyncio.TimerHandle | None = None


class Hedging:
    """Watches the batches of one run."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._batches: dict[Hashable, Batch] = {}

    def watch(self, call: Call, slot: Slot, timeout: asyncio.Timeout) -> Attempt:
        """Register an attempt that is being sent. Match it by one ``unwatch``."""
        key = (call.node, call.turn, call.cell, call.batch)
        batch = self._batches.get(key)
        loop = asyncio.get_running_loop()
        if batch is None:
            batch = self._batches[key] = Batch(key)
            batch.timer = loop.call_later(FIRST_CHECK_S, self._check, batch)
        attempt = Attempt(call, slot, timeout, loop.time(), batch)
        batch.open[attempt] = None
        batch.sent += 1
        return attempt

    def unwatch(self, attempt: Attempt, *, answered: bool) -> None:
        """Remove an attempt that has ended, and cancel its hedge if that is still in flight."""
        batch = attempt.batch
        del batch.open[attempt]
        batch.answered += answered
        if attempt.hedge is not None:
            hedge, attempt.hedge = attempt.hedge, None
            if hedge.task is not None:
                hedge.task.cancel()
            hedge.slot.release()
            attempt.call.settle_other(hedge.hold)
        if not batch.open:
            del self._batches[batch.key]
            if batch.timer is not None:
                batch.timer.cancel()

    def _check(self, batch: Batch) -> None:
        """Hedge the stragglers of a batch, and set the timer for the next check."""
        loop = asyncio.get_running_loop()
        _adapt_deadlines(batch, loop.time())
        wait_s = CHECK_S
        for attempt in list(batch.open):
            if attempt.hedge is not None:
                continue
            straggler_s = attempt.slot.straggler_s
            if straggler_s is None or batch.answered <= len(batch.open):
                break
            due_s = attempt.sent_at + straggler_s - loop.time()
            if due_s > 0:
                wait_s = due_s
                break
            if batch.hedges >= max(1, int(MAX_SHARE * batch.sent)) or not self._send(attempt):
                break
            batch.hedges += 1
        batch.timer = loop.call_later(wait_s, self._check, batch)

    def _send(self, attempt: Attempt) -> bool:
        """Send a hedge. Returns False if there is no slot or no budget for it now."""
        call = attempt.call
        slot = self._scheduler.try_acquire(call.model, call.request)
        if slot is None:
            return False
        hold = call.services.reservations.try_reserve(call.need)
        if hold is None:
            slot.release()
            return False
        attempt.hedge = Hedge(slot, hold)
        call.send_hedge()
        attempt.hedge.task = asyncio.create_task(self._ask(attempt, attempt.hedge))
        return True

    async def _ask(self, attempt: Attempt, hedge: Hedge) -> None:
        """Ask again, and end the first request if this one answers before it."""
        call = attempt.call
        outcome: Reply | ModelError
        try:
            outcome = await call.model.ask(call.request)
        except ModelError as error:
            outcome = error
        if attempt.hedge is not hedge:
            return  # the attempt ended in the same moment, and has settled this request
        attempt.hedge = None
        if isinstance(outcome, ModelError):
            hedge.slot.failed(outcome)
            call.settle_other(hedge.hold, outcome)
        else:
            hedge.slot.succeeded(outcome)
            call.settle_other(call.swap_hold(hedge.hold))
            attempt.reply = outcome
            if not attempt.timeout.expired():
                attempt.timeout.reschedule(asyncio.get_running_loop().time())
        hedge.slot.release()


def _adapt_deadlines(batch: Batch, now: float) -> None:
    """Shorten the deadlines of attempts that were sent before the usual latency was known."""
    for attempt in batch.open:
        if now - attempt.sent_at < FIRST_CHECK_S or attempt.timeout.expired():
            break
        ends_at, ends_before = attempt.sent_at + attempt.slot.timeout_s, attempt.timeout.when()
        if ends_before is not None and ends_at < ends_before:
            attempt.timeout.reschedule(max(now, ends_at))
