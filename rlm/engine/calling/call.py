"""One model call: its state, its settlement and its events. Knows neither when attempts are made nor what the reply means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from rlm.core.billing import is_unbilled
from rlm.core.budget import Amounts
from rlm.core.errors import ModelError, TruncatedReplyError
from rlm.core.events import CallBilled, CallFailed, CallReplied, CallRetried, CallSent, CallStarted
from rlm.core.ids import CallId, NodeId
from rlm.core.ledger import NOTHING, Hold, Need
from rlm.core.messages import Reply, Request, Usage
from rlm.core.values import frozen
from rlm.engine.calling.streaming import FirstText, TurnStream
from rlm.engine.recorder import Recorder
from rlm.engine.spending.meter import Meter
from rlm.engine.spending.reservations import Reservations
from rlm.ports import Model


@frozen
class CallServices:
    """Budget, meter and event recorder, shared by a run's calls."""

    reservations: Reservations
    meter: Meter
    recorder: Recorder


@dataclass(eq=False, slots=True)
class Call:
    """One call, over all its attempts. Every attempt is reserved at its worst case, and then settled:

    - As free, if it was never sent or the provider turned it away.
    - As billed, if its usage was reported.
    - As assumed at its whole reservation, if it was sent and then cut off (a timeout, a broken connection, a cancellation).

    Thousands of calls wait at once, and the garbage collector walks through everything they hold. So each is a single object.

    Attributes:
        need: the budget that each attempt reserves.
        cell, batch, key, prefetched: of a leaf call, as in ``CallStarted``.
        limit: the limit that makes a turn the node's last one.
        listener: reads the reply while it streams.
        hold: the reservation of the current attempt.
        started: the call's first event.
    """

    services: CallServices
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
    listener: TurnStream | FirstText | None = None
    hold: Hold | None = None
    started: CallStarted = field(init=False)
    _in_flight: bool = False
    _attempt: int = 0
    _billed: bool = False

    @property
    def prompt(self) -> str:
        """The newest message."""
        return self.request.messages[-1].text

    @property
    def is_accepted(self) -> bool:
        """True once a streamed reply was accepted before its end: the call is not retried, even if the stream breaks off."""
        return self.listener is not None and self.listener.accepted

    # The steps of a call, in order.

    async def reserve(self) -> None:
        """Reserve the worst case of the next attempt.

        Raises:
            BudgetExceededError: it does not fit the budget, and no call in flight could free enough.
        """
        self.hold = await self.services.reservations.reserve(self.need)

    def start(self) -> None:
        """Emit the call's first event, and have its worst case on record soon."""
        recorder, request = self.services.recorder, self.request
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
        recorder.flush_soon()

    def send(self, attempt: int) -> None:
        """Mark the attempt as sent. Attempts count from 1."""
        self._in_flight, self._attempt = True, attempt
        self.services.recorder.emit(CallSent, self.node, call=self.id, attempt=attempt)

    def send_hedge(self) -> None:
        """Emit a second request beside the attempt in flight, and have its worst case on record soon."""
        self.services.recorder.emit(CallSent, self.node, call=self.id, attempt=self._attempt, hedge=True)
        self.services.recorder.flush_soon()

    def retry(self, error: ModelError, attempt: int, delay_s: float) -> None:
        """Settle a failed attempt that is followed by another."""
        self._settle_failure(error, NOTHING)
        reason = f"{type(error).__name__}: {error}"
        self.services.recorder.emit(
            CallRetried, self.node, call=self.id, attempt=attempt, delay_s=delay_s, reason=reason
        )

    def succeed(self, reply: Reply) -> None:
        """Settle the reply. If its text was accepted earlier, only the bill is emitted."""
        usd, cost = self.services.meter.cost(self.model.name, reply.usage, reply.cost_usd)
        if self.is_accepted:
            emit_billed(self.services.recorder, self.started, reply.usage, usd)
            self._settle(cost)
        else:
            self._settle(cost)
            self.emit_reply(reply, usd)

    def fail(self, error: BaseException) -> None:
        """Settle the last attempt and emit the failure. A free failure still counts as one call, so that loops end."""
        cancelled = isinstance(error, asyncio.CancelledError)
        self._settle_failure(error, NOTHING if self._billed or cancelled else Amounts(calls=1))
        if not self.is_accepted:
            text = error.text if isinstance(error, TruncatedReplyError) else ""
            message = str(error) or "stopped before its reply came"
            emit_failed(self.services.recorder, self.started, type(error).__name__, message, text)

    def emit_reply(self, reply: Reply, cost_usd: float | None, *, cached: bool = False, billed: bool = True) -> None:
        """Emit a reply. ``billed`` is False if its cost is not known yet."""
        recorder, started = self.services.recorder, self.started
        recorder.emit(
            CallReplied,
            started.node,
            call=started.call,
            reply=reply if reply.headroom is None else replace(reply, headroom=None),
            cost_usd=cost_usd,
            elapsed_s=round(recorder.at_s - started.at_s, 6),
            cached=cached,
            billed=billed,
        )

    # Settlement.

    def swap_hold(self, hold: Hold) -> Hold:
        """Continue with the reservation of a hedge that answered first. Returns that of the attempt, to be settled."""
        assert self.hold is not None
        lost, self.hold = self.hold, hold
        return lost

    def settle_other(self, hold: Hold, error: ModelError | None = None) -> None:
        """Settle the loser of two requests: by its error, or as assumed if it was cancelled."""
        recorder, reservations = self.services.recorder, self.services.reservations
        if error is not None and error.usage is not None:
            usd, cost = self.services.meter.cost(self.model.name, error.usage)
            emit_billed(recorder, self.started, error.usage, usd)
            reservations.settle(hold, cost)
        elif error is not None and is_unbilled(error):
            reservations.settle(hold, NOTHING)
            return
        else:
            emit_billed(recorder, self.started, Usage(), 0.0, hold.worst)
            reservations.settle(hold, hold.worst, assumed=True)
        self._billed = True

    def _settle_failure(self, error: BaseException, if_free: Amounts) -> None:
        """Settle an attempt without a reply. ``if_free`` is counted if it cost nothing."""
        if self.hold is None:
            return
        recorder = self.services.recorder
        usage = error.usage if isinstance(error, ModelError) else None
        if usage is not None:
            usd, cost = self.services.meter.cost(self.model.name, usage)
            emit_billed(recorder, self.started, usage, usd)
            self._settle(cost)
        elif not self._in_flight or (isinstance(error, ModelError) and is_unbilled(error) and not self.is_accepted):
            if if_free.calls:
                emit_billed(recorder, self.started, Usage(), 0.0)
            self._settle(if_free)
        else:
            emit_billed(recorder, self.started, Usage(calls=int(self.is_accepted)), 0.0, self.hold.worst)
            self._settle(self.hold.worst, assumed=True)

    def _settle(self, cost: Amounts, *, assumed: bool = False) -> None:
        hold, self.hold = self.hold, None
        self._in_flight = False
        if hold is not None:
            self._billed = self._billed or assumed or cost.tokens > 0
            self.services.reservations.settle(hold, cost, assumed=assumed)


def emit_billed(
    recorder: Recorder, call: CallStarted, usage: Usage, cost_usd: float | None, assumed: Amounts = NOTHING
) -> None:
    """Emit the cost of a call without a reply, or after its reply. ``assumed`` is its worst case if nothing was reported."""
    recorder.emit(
        CallBilled,
        call.node,
        call=call.call,
        usage=usage,
        cost_usd=cost_usd,
        assumed_tokens=assumed.tokens,
        assumed_usd=assumed.usd,
    )


def emit_failed(recorder: Recorder, call: CallStarted, error: str, message: str, text: str = "") -> None:
    """Emit the end of a call without a reply. ``text`` is the part of a truncated reply."""
    elapsed_s = round(recorder.at_s - call.at_s, 6)
    recorder.emit(CallFailed, call.node, call=call.call, error=error, message=message, elapsed_s=elapsed_s, text=text)
