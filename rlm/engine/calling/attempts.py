"""Attempts in flight: their deadlines, and hedges for stragglers.

A hedge is a second request for a call of a batch that takes far longer than its siblings. It needs a batch of which most calls
have answered, a free slot, and budget for its own worst case. The first answer wins. The loser is cancelled, and its cost is
assumed. One timer serves all deadlines, and each batch has another, so that a call in time costs one object.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Hashable
from dataclasses import dataclass, field

from rlm.core.errors import ModelError, ModelTimeoutError
from rlm.core.ledger import Hold
from rlm.core.messages import Reply
from rlm.engine.calling.call import Call
from rlm.engine.calling.user_models import check_reply, translate
from rlm.ports import Scheduler, Slot

MAX_SHARE = 0.02  # hedges of the calls of a batch; one is always allowed
FIRST_CHECK_S = 1.0
CHECK_S = 0.25  # between checks of a batch that has too few answers, or no room for a hedge


@dataclass(eq=False, slots=True)
class Attempt:
    """An attempt in flight, made by ``task``.

    Attributes:
        sent_at, timeout_s: its deadline. A hedge that answers ends it earlier.
        cancelling: requests to cancel the task when the attempt began.
        batch: the batch that its call belongs to, if that can be hedged.
        hedge: its second request.
        reply: the hedge's reply, if it was first.
        interrupted: the task was cancelled by ``interrupt``.
    """

    call: Call
    slot: Slot
    task: asyncio.Task[object]
    sent_at: float
    timeout_s: float
    cancelling: int
    batch: Batch | None = None
    hedge: Hedge | None = None
    reply: Reply | None = None
    interrupted: bool = False

    def interrupt(self) -> None:
        """End the attempt from outside, by its deadline or by a hedge's answer."""
        if not self.interrupted:
            self.interrupted = True
            self.task.cancel()

    def resume(self) -> bool:
        """Take an ``interrupt`` back. True if nothing else has cancelled the task: its CancelledError then ends here."""
        if not self.interrupted:
            return False
        self.interrupted = False
        return self.task.uncancel() <= self.cancelling


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


class Attempts:
    """The attempts in flight of one run."""

    def __init__(self, scheduler: Scheduler, *, hedge: bool) -> None:
        self._scheduler = scheduler
        self._hedge = hedge
        self._open: dict[Attempt, None] = {}
        self._batches: dict[Hashable, Batch] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._check_at = math.inf

    def begin(self, call: Call, slot: Slot) -> Attempt:
        """Register an attempt that the current task is about to send. Match it by one ``end``.

        A reply that streams is given the longest deadline: it shows that it has not stalled.
        """
        task = asyncio.current_task()
        assert task is not None
        streams = call.listener is not None
        timeout_s = self._scheduler.call_timeout_s if streams else slot.timeout_s
        now = asyncio.get_running_loop().time()
        attempt = Attempt(call, slot, task, now, timeout_s, task.cancelling())
        self._open[attempt] = None
        self._schedule(now + timeout_s)
        if self._hedge and call.batch is not None and not streams:
            attempt.batch = self._join_batch(attempt)
        return attempt

    def end(self, attempt: Attempt, *, answered: bool) -> None:
        """Remove an attempt that has ended, and cancel its hedge if that is still in flight."""
        attempt.resume()
        del self._open[attempt]
        if attempt.hedge is not None:
            hedge, attempt.hedge = attempt.hedge, None
            if hedge.task is not None:
                hedge.task.cancel()
            hedge.slot.release()
            attempt.call.settle_other(hedge.hold)
        batch = attempt.batch
        if batch is not None:
            del batch.open[attempt]
            batch.answered += answered
            if not batch.open:
                del self._batches[batch.key]
                if batch.timer is not None:
                    batch.timer.cancel()
        if not self._open and self._timer is not None:
            self._timer.cancel()
            self._timer, self._check_at = None, math.inf

    def timeout_error(self, attempt: Attempt) -> ModelTimeoutError:
        """The error of an attempt that met its deadline."""
        name, timeout_s = attempt.call.model.name, attempt.timeout_s
        is_longest = timeout_s >= self._scheduler.call_timeout_s
        advice = "Allow more with call_timeout_s" if is_longest else "Similar calls take a tenth of that"
        return ModelTimeoutError(f"{name} did not reply within {timeout_s:g} s. {advice}.", model=name)

    # Deadlines.

    def _schedule(self, at: float) -> None:
        if at < self._check_at:
            if self._timer is not None:
                self._timer.cancel()
            self._check_at = at
            self._timer = asyncio.get_running_loop().call_at(at, self._check_deadlines)

    def _check_deadlines(self) -> None:
        """Interrupt attempts that have met their deadline, and set the timer for the next one."""
        now, next_at = asyncio.get_running_loop().time(), math.inf
        for attempt in self._open:
            due_at = attempt.sent_at + attempt.timeout_s
            if due_at <= now:
                attempt.interrupt()
            elif due_at < next_at:
                next_at = due_at
        self._timer, self._check_at = None, math.inf
        if next_at < math.inf:
            self._schedule(next_at)

    def _adapt_deadlines(self, batch: Batch, now: float) -> None:
        """Shorten the deadlines of attempts that were sent before the usual latency was known."""
        for attempt in batch.open:
            if now - attempt.sent_at < FIRST_CHECK_S:
                break
            if attempt.slot.timeout_s < attempt.timeout_s:
                attempt.timeout_s = attempt.slot.timeout_s
                self._schedule(max(now, attempt.sent_at + attempt.timeout_s))

    # Hedges.

    def _join_batch(self, attempt: Attempt) -> Batch:
        call = attempt.call
        key = (call.node, call.turn, call.cell, call.batch)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = Batch(key)
            batch.timer = asyncio.get_running_loop().call_later(FIRST_CHECK_S, self._check_batch, batch)
        batch.open[attempt] = None
        batch.sent += 1
        return batch

    def _check_batch(self, batch: Batch) -> None:
        """Hedge the stragglers of a batch, and set the timer for the next check."""
        loop = asyncio.get_running_loop()
        self._adapt_deadlines(batch, loop.time())
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
            if batch.hedges >= max(1, int(MAX_SHARE * batch.sent)) or not self._send_hedge(attempt):
                break
            batch.hedges += 1
        batch.timer = loop.call_later(wait_s, self._check_batch, batch)

    def _send_hedge(self, attempt: Attempt) -> bool:
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
        attempt.hedge.task = asyncio.create_task(self._ask_again(attempt, attempt.hedge))
        return True

    async def _ask_again(self, attempt: Attempt, hedge: Hedge) -> None:
        """Ask again, and end the first request if this one answers before it."""
        call = attempt.call
        outcome: Reply | ModelError
        try:
            outcome = check_reply(call.model, await call.model.ask(call.request))
        except Exception as error:
            translated = translate(call.model, error)
            if not isinstance(translated, ModelError):
                raise
            outcome = translated
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
            attempt.interrupt()
        hedge.slot.release()
