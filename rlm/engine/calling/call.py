"""One model call on its way: where it stands, what holds its place in the budget, and its events.

It must not know when a call is made, nor what becomes of its reply.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from rlm.core.billing import is_unbilled
from rlm.core.budget import Amounts
from rlm.core.errors import ModelError, TruncatedReplyError
from rlm.core.events import CallBilled, CallFailed, CallReplied, CallRetried, CallSent, CallStarted
from rlm.core.ids import CallId, NodeId
from rlm.core.ledger import NOTHING, Hold, Need
from rlm.core.messages import Reply, Request, Usage
from rlm.engine.calling.streaming import FirstText, TurnStream
from rlm.engine.recorder import Recorder
from rlm.engine.spending.meter import Meter
from rlm.engine.spending.reservations import Reservations
from rlm.ports import Model, OnText


@dataclass(frozen=True, slots=True)
class CallServices:
    """What the calls of one run are paid from, measured with, and told to."""

    holds: Reservations
    meter: Meter
    recorder: Recorder


@dataclass(eq=False, slots=True)
class Call:
    """Implements CallObserver: pays for the call attempt by attempt, and turns what the scheduler tells of it into events.

    An attempt that was turned away costs nothing; one that failed with a bill costs that; one that was sent and then cut off
    (a timeout, a broken connection, a cancellation) counts with its whole hold, because nobody says what it cost.

    Thousands wait at once, and everything that each of them holds is what the garbage collector walks through: so there is one
    object for all of it.

    Attributes:
        need: what it asks of the budget, and every further attempt again.
        cell, batch, key: of a leaf call, as in ``CallStarted``.
        limit: what makes a turn a node's last one.
        hearing: who hears the reply while it arrives.
        hold: what is held for it now.
        started: the event that it began with.
    """

    till: CallServices
    model: Model
    request: Request
    need: Need
    id: CallId
    node: NodeId
    turn: int
    cell: int | None = None
    batch: int | None = None
    key: str = ""
    limit: str | None = None
    prefetched: bool = False
    hearing: TurnStream | FirstText | None = None
    hold: Hold | None = None
    started: CallStarted = field(init=False)
    _in_flight: bool = False
    _billed: bool = False

    # What becomes of the call as a whole.

    def begin(self) -> None:
        recorder, request = self.till.recorder, self.request
        self.started = recorder.emit(
            CallStarted,
            self.node,
            call=self.id,
            role=request.role,
            depth=request.depth,
            model=self.model.name,
            turn=self.turn,
            request=request,
            cell=self.cell,
            batch=self.batch,
            key=self.key,
            limit=self.limit,
            prefetched=self.prefetched,
        )
        recorder.flush_soon()  # what it may cost

    def reply(self, reply: Reply, cost_usd: float | None, *, cached: bool = False, billed: bool = True) -> None:
        """Tells of a reply."""
        recorder, started = self.till.recorder, self.started
        recorder.emit(
            CallReplied,
            started.node,
            call=started.call,
            reply=reply,
            cost_usd=cost_usd,
            elapsed_s=recorder.at_s - started.at_s,
            cached=cached,
            billed=billed,
        )

    def fail(self, error: BaseException) -> None:
        """It has no reply: pays for its last attempt. A call that was free still counts as one, so that loops end."""
        cancelled = isinstance(error, asyncio.CancelledError)
        self._pay(error, NOTHING if self._billed or cancelled else Amounts(calls=1))
        if not self.decided:
            kind, text = type(error).__name__, error.text if isinstance(error, TruncatedReplyError) else ""
            tell_failure(self.till.recorder, self.started, kind, str(error) or "stopped before its reply came", text)

    # See ``rlm.ports.CallObserver``.

    @property
    def decided(self) -> bool:
        return self.hearing is not None and self.hearing.decided

    def listen(self) -> OnText | None:
        return None if self.hearing is None else self.hearing.listen()

    async def admit(self, attempt: int) -> None:
        """Each attempt has a hold of its own; the first one's was there before the call began."""
        if self.hold is None:
            self.hold = await self.till.holds.take(self.need)

    def sent(self, attempt: int) -> None:
        self._in_flight = True
        self.till.recorder.emit(CallSent, self.node, call=self.id, attempt=attempt)

    def retried(self, attempt: int, delay_s: float, error: ModelError) -> None:
        self._pay(error, NOTHING)
        reason = f"{type(error).__name__}: {error}"
        self.till.recorder.emit(CallRetried, self.node, call=self.id, attempt=attempt, delay_s=delay_s, reason=reason)

    # Its bill.

    def settle(self, reply: Reply) -> float | None:
        """Pays for the reply; returns its price in dollars, where it has one."""
        usd, cost = self.till.meter.cost(self.model.name, reply.usage, reply.cost_usd)
        self._settle(cost)
        return usd

    def settle_later(self, reply: Reply) -> None:
        """Pays for a reply that was taken before it was whole."""
        usd, cost = self.till.meter.cost(self.model.name, reply.usage, reply.cost_usd)
        tell_bill(self.till.recorder, self.started, reply.usage, usd)
        self._settle(cost)

    def _pay(self, error: BaseException, if_free: Amounts) -> None:
        if self.hold is None:
            return
        usage = error.usage if isinstance(error, ModelError) else None
        if usage is not None:
            usd, cost = self.till.meter.cost(self.model.name, usage)
            tell_bill(self.till.recorder, self.started, usage, usd)
            self._settle(cost)
        elif not self._in_flight or (isinstance(error, ModelError) and is_unbilled(error) and not self.decided):
            if if_free.calls:
                tell_bill(self.till.recorder, self.started, Usage(), 0.0)
            self._settle(if_free)
        else:
            tell_bill(self.till.recorder, self.started, Usage(calls=int(self.decided)), 0.0, self.hold.worst)
            self._settle(self.hold.worst, assumed=True)

    def _settle(self, cost: Amounts, *, assumed: bool = False) -> None:
        hold, self.hold = self.hold, None
        self._in_flight = False
        if hold is not None:
            self._billed = self._billed or assumed or cost.tokens > 0
            self.till.holds.settle(hold, cost, assumed=assumed)


def tell_bill(
    recorder: Recorder, call: CallStarted, usage: Usage, cost_usd: float | None, assumed: Amounts = NOTHING
) -> None:
    """Tells what a call did cost that has no reply, or not yet; ``assumed`` is the most it can have cost where nobody knows."""
    recorder.emit(
        CallBilled,
        call.node,
        call=call.call,
        usage=usage,
        cost_usd=cost_usd,
        assumed_tokens=assumed.tokens,
        assumed_usd=assumed.usd,
    )


def tell_failure(recorder: Recorder, call: CallStarted, error: str, message: str, text: str = "") -> None:
    """Tells that a call ended without a reply."""
    elapsed_s = recorder.at_s - call.at_s
    recorder.emit(CallFailed, call.node, call=call.call, error=error, message=message, elapsed_s=elapsed_s, text=text)
