"""One model call of a run: its price, its place in the budget, its events. Turns of nodes and leaf calls are made alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rlm.core.budget import Ledger
from rlm.core.errors import ModelError
from rlm.core.events import CallFailed, CallReplied, CallRetried, CallSent, CallStarted
from rlm.core.ids import CallId, NodeId
from rlm.core.messages import Reply, Request, Usage
from rlm.engine.recorder import Recorder
from rlm.ports import Model, Scheduler

PriceOf = Callable[[str, Usage], float | None]
"""Dollars for some tokens of a model, by its full name; None where no price is known."""


@dataclass(frozen=True, slots=True)
class CallPlace:
    """Where a call stands: its id, the node that asked, its turn, and for a leaf call its cell and batch."""

    call: CallId
    node: NodeId
    turn: int
    cell: int | None = None
    batch: int | None = None
    prefetched: bool = False


class Caller:
    """Makes the calls of one run."""

    def __init__(self, scheduler: Scheduler, ledger: Ledger, recorder: Recorder, price_of: PriceOf) -> None:
        self._scheduler = scheduler
        self._ledger = ledger
        self._recorder = recorder
        self._price_of = price_of

    async def ask(self, model: Model, request: Request, place: CallPlace, *, last_turn: bool = False) -> Reply:
        """A whole reply.

        Raises:
            BudgetExceededError: before anything is sent.
            ModelError: after all attempts.
        """
        self._ledger.spend_call(last_turn=last_turn)
        recorder, node = self._recorder, place.node
        began = recorder.at_s
        recorder.emit(
            CallStarted(
                run=recorder.run,
                node=node,
                at_s=began,
                call=place.call,
                role=request.role,
                depth=request.depth,
                model=model.name,
                turn=place.turn,
                request=request,
                cell=place.cell,
                batch=place.batch,
                prefetched=place.prefetched,
            )
        )
        try:
            reply = await self._scheduler.ask(model, request, node=node, observer=_Attempts(recorder, place))
        except BaseException as error:
            self._emit_failure(model, request, place, error, began)
            raise
        cost = reply.cost_usd if reply.cost_usd is not None else self._price_of(model.name, reply.usage)
        recorder.emit(
            CallReplied(
                run=recorder.run,
                node=node,
                at_s=recorder.at_s,
                call=place.call,
                role=request.role,
                depth=request.depth,
                model=model.name,
                reply=reply,
                cost_usd=cost,
                elapsed_s=recorder.at_s - began,
            )
        )
        return reply

    def _emit_failure(
        self, model: Model, request: Request, place: CallPlace, error: BaseException, began: float
    ) -> None:
        recorder = self._recorder
        recorder.emit(
            CallFailed(
                run=recorder.run,
                node=place.node,
                at_s=recorder.at_s,
                call=place.call,
                role=request.role,
                depth=request.depth,
                model=model.name,
                error=type(error).__name__,
                message=str(error) or "stopped before its reply came",
                elapsed_s=recorder.at_s - began,
            )
        )


class _Attempts:
    """Turns what the scheduler tells of one call into events."""

    def __init__(self, recorder: Recorder, place: CallPlace) -> None:
        self._recorder = recorder
        self._place = place

    def sent(self, attempt: int) -> None:
        recorder, place = self._recorder, self._place
        recorder.emit(CallSent(run=recorder.run, node=place.node, at_s=recorder.at_s, call=place.call, attempt=attempt))

    def retried(self, attempt: int, delay_s: float, error: ModelError) -> None:
        recorder, place = self._recorder, self._place
        recorder.emit(
            CallRetried(
                run=recorder.run,
                node=place.node,
                at_s=recorder.at_s,
                call=place.call,
                attempt=attempt,
                delay_s=delay_s,
                reason=f"{type(error).__name__}: {error}",
            )
        )
