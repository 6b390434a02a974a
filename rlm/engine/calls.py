"""One model call of a run: its place in the budget, its price, its events. Turns of nodes and leaf calls are made alike, but that
a turn may be taken while it still arrives: it is then one event, and its bill, when the stream has ended, another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from rlm.core.billing import is_unbilled
from rlm.core.budget import Amounts
from rlm.core.endings import CutRule, thinks_aloud
from rlm.core.errors import ModelError, TruncatedReplyError
from rlm.core.events import CallBilled, CallFailed, CallReplied, CallRetried, CallSent, CallStarted
from rlm.core.ids import CallId, NodeId
from rlm.core.ledger import NOTHING, Hold, Need
from rlm.core.messages import Reply, Request, Usage
from rlm.engine.hearing import FirstWord, Hearing, Rests
from rlm.engine.holds import Holds
from rlm.engine.meter import Meter, PriceOf
from rlm.engine.recorder import Recorder
from rlm.ports import AnswerCache, Hear, Model, Scheduler, can_stream

__all__ = ["CallPlace", "Caller", "PriceOf"]


@dataclass(frozen=True, slots=True)
class CallPlace:
    """Where a call stands: its id, the node that asked, its turn, and for a leaf call its cell, batch and key.

    ``limit``: what makes a turn a node's last one.
    """

    call: CallId
    node: NodeId
    turn: int
    cell: int | None = None
    batch: int | None = None
    key: str = ""
    limit: str | None = None
    prefetched: bool = False


class Caller:
    """Makes the calls of one run."""

    def __init__(
        self, scheduler: Scheduler, holds: Holds, meter: Meter, recorder: Recorder, cache: AnswerCache | None = None
    ) -> None:
        self._cache = None if cache is None else CountingCache(cache)
        self._scheduler = scheduler
        self.recorder = recorder
        self.holds = holds
        self.meter = meter
        self.rests = Rests()

    def ask(
        self, model: Model, request: Request, place: CallPlace, need: Need, first_word: asyncio.Event | None = None
    ) -> Coroutine[Any, Any, Reply]:
        """A whole reply. Whatever becomes of the call, what it costs is counted. ``first_word`` is set when the reply begins.

        Raises:
            BudgetExceededError: before anything is sent, or in place of a further attempt.
            ModelError: after all attempts.
        """
        hearing = None if first_word is None else FirstWord(first_word)
        if self._cache is not None and place.cell is not None:
            return self._ask_cache(self._cache, model, request, place, need, hearing)
        return self._ask(model, request, place, need, hearing)

    async def _ask_cache(  # noqa: PLR0917  as ``_ask``
        self,
        cache: CountingCache,
        model: Model,
        request: Request,
        place: CallPlace,
        need: Need,
        hearing: FirstWord | None,
    ) -> Reply:
        occurrence = cache.count(model, request)
        if (known := await cache.get(model, request, occurrence)) is not None:
            return await self._take_known(model, request, place, known)
        reply = await self._ask(model, request, place, need, hearing)
        cache.put(model, request, occurrence, reply)
        return reply

    async def ask_turn(
        self,
        model: Model,
        request: Request,
        place: CallPlace,
        need: Need,
        *,
        rule: CutRule = "never",
        billed: Callable[[Reply], None] = lambda _: None,
    ) -> Reply:
        """As ``ask``, for a node's turn: its reply is taken as soon as it is known where it ends, by ``rule``.

        What then still comes is read beside whatever the turn goes on with; the slot and the hold are kept until it has ended.
        ``usage`` of the reply is empty in that case, and ``billed`` is told the reply with its usage later.
        """
        if rule == "never" or not can_stream(model):
            return await self._ask(model, request, place, need)
        taken: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def take(text: str) -> None:
            reply = Reply(text, Usage(), model.name)
            self._emit_reply(model, request, place, reply, 0.0, hearing.began_s, billed=False)
            if not taken.done():
                taken.set_result(reply)

        def bill(reply: Reply) -> None:
            billed(replace(reply, text=taken.result().text))

        hearing = Hearing(rule, thinking=thinks_aloud(model.name, request.messages), decide=take)
        task = asyncio.create_task(self._ask(model, request, place, need, hearing, bill))
        try:
            await asyncio.wait((task, taken), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        if not taken.done():
            return await task
        self.rests.add(task)
        await self.recorder.written()
        return taken.result()

    async def _ask(  # noqa: PLR0917  a call, and who hears it
        self,
        model: Model,
        request: Request,
        place: CallPlace,
        need: Need,
        hearing: Hearing | FirstWord | None = None,
        billed: Callable[[Reply], None] | None = None,
    ) -> Reply:
        """Thousands of these wait at once: what each of them holds, closures included, is what the collector walks through."""
        hold = await self.holds.take(need)
        payment = _Payment(self, model, request, place, hold, hearing)
        began = self._emit_started(model, request, place)
        if hearing is not None:
            hearing.began_s = began
        try:
            reply = await self._scheduler.ask(model, request, node=place.node, observer=payment)
        except BaseException as error:
            payment.close(error)
            if not payment.decided:
                self._emit_failure(model, request, place, error, began)
            raise
        if billed is not None and payment.decided:
            payment.settle_later(reply)
            billed(reply)
            return reply
        self._emit_reply(model, request, place, reply, payment.settle(reply), began)
        await self.recorder.written()  # before anybody acts on it: what was answered is never paid for again
        return reply

    async def _take_known(self, model: Model, request: Request, place: CallPlace, known: Reply) -> Reply:
        """An answer from an earlier run: seen as a call, and free."""
        began = self._emit_started(model, request, place)
        self._emit_reply(model, request, place, known, 0.0, began, cached=True)
        await self.recorder.written()
        return known

    def _emit_started(self, model: Model, request: Request, place: CallPlace) -> float:
        recorder = self.recorder
        began = recorder.at_s
        recorder.emit(
            CallStarted(
                run=recorder.run,
                node=place.node,
                at_s=began,
                call=place.call,
                role=request.role,
                depth=request.depth,
                model=model.name,
                turn=place.turn,
                request=request,
                cell=place.cell,
                batch=place.batch,
                key=place.key,
                limit=place.limit,
                prefetched=place.prefetched,
            )
        )
        return began

    def _emit_reply(  # noqa: PLR0917  what a reply's event tells
        self,
        model: Model,
        request: Request,
        place: CallPlace,
        reply: Reply,
        cost_usd: float | None,
        began: float,
        *,
        cached: bool = False,
        billed: bool = True,
    ) -> None:
        recorder = self.recorder
        recorder.emit(
            CallReplied(
                run=recorder.run,
                node=place.node,
                at_s=recorder.at_s,
                call=place.call,
                role=request.role,
                depth=request.depth,
                model=model.name,
                reply=reply,
                cost_usd=cost_usd,
                elapsed_s=recorder.at_s - began,
                cached=cached,
                billed=billed,
            )
        )

    def _emit_failure(
        self, model: Model, request: Request, place: CallPlace, error: BaseException, began: float
    ) -> None:
        recorder = self.recorder
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
                text=error.text if isinstance(error, TruncatedReplyError) else "",
            )
        )


class CountingCache:
    """A cache, with the count of equal requests of one run: asking the same five times takes five answers, not one."""

    def __init__(self, cache: AnswerCache) -> None:
        self.get = cache.get
        self.put = cache.put
        self._asked = Counter[tuple[str, Request]]()

    def count(self, model: Model, request: Request) -> int:
        key = (model.name, replace(request, schema=None, depth=0, cache_key=str(request.schema)))
        self._asked[key] += 1
        return self._asked[key]


class _Payment:
    """Pays for one call, attempt by attempt, and turns what the scheduler tells of it into events.

    An attempt that was turned away costs nothing; one that failed with a bill costs that; one that was sent and then cut off
    (a timeout, a broken connection, a cancellation) counts with its whole hold, because nobody says what it cost.
    """

    def __init__(  # noqa: PLR0917  a call, what pays for it and who hears it
        self,
        caller: Caller,
        model: Model,
        request: Request,
        place: CallPlace,
        hold: Hold,
        hearing: Hearing | FirstWord | None,
    ) -> None:
        self._holds = caller.holds
        self._meter = caller.meter
        self._recorder = caller.recorder
        self._model = model
        self._request = request
        self._place = place
        self._need = hold.need
        self._hold: Hold | None = hold
        self._in_flight = False
        self._billed = False
        self._hearing = hearing

    @property
    def decided(self) -> bool:
        return self._hearing is not None and self._hearing.decided

    def listen(self) -> Hear | None:
        return None if self._hearing is None else self._hearing.listen()

    async def admit(self, attempt: int) -> None:
        """Each attempt has a hold of its own; the first one's was there before the call began."""
        if self._hold is None:
            self._hold = await self._holds.take(self._need)

    def sent(self, attempt: int) -> None:
        self._in_flight = True
        recorder, place = self._recorder, self._place
        recorder.emit(CallSent(run=recorder.run, node=place.node, at_s=recorder.at_s, call=place.call, attempt=attempt))

    def retried(self, attempt: int, delay_s: float, error: ModelError) -> None:
        self._pay(error, NOTHING)
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

    def settle(self, reply: Reply) -> float | None:
        """Pays for the reply; returns its price in dollars, where it has one."""
        usd, cost = self._meter.cost(self._model.name, reply.usage, reply.cost_usd)
        self._settle(cost)
        return usd

    def settle_later(self, reply: Reply) -> None:
        """Pays for a reply that was taken before it was whole."""
        usd, cost = self._meter.cost(self._model.name, reply.usage, reply.cost_usd)
        self._emit_bill(reply.usage, usd, NOTHING)
        self._settle(cost)

    def close(self, error: BaseException) -> None:
        """Pays for the last attempt of a call that failed. A call that was free still counts as one, so that loops end."""
        cancelled = isinstance(error, asyncio.CancelledError)
        self._pay(error, NOTHING if self._billed or cancelled else Amounts(calls=1))

    def _pay(self, error: BaseException, if_free: Amounts) -> None:
        if self._hold is None:
            return
        usage = error.usage if isinstance(error, ModelError) else None
        if usage is not None:
            usd, cost = self._meter.cost(self._model.name, usage)
            self._emit_bill(usage, usd, NOTHING)
            self._settle(cost)
        elif not self._in_flight or (isinstance(error, ModelError) and is_unbilled(error) and not self.decided):
            self._settle(if_free)
        else:
            worst = self._hold.worst
            if worst.tokens or self.decided:
                self._emit_bill(Usage(calls=int(self.decided)), 0.0, worst)
            self._settle(worst, assumed=True)

    def _settle(self, cost: Amounts, *, assumed: bool = False) -> None:
        hold, self._hold = self._hold, None
        self._in_flight = False
        if hold is not None:
            self._billed = self._billed or assumed or cost.tokens > 0
            self._holds.settle(hold, cost, assumed=assumed)

    def _emit_bill(self, usage: Usage, cost_usd: float | None, assumed: Amounts) -> None:
        recorder, place = self._recorder, self._place
        recorder.emit(
            CallBilled(
                run=recorder.run,
                node=place.node,
                at_s=recorder.at_s,
                call=place.call,
                role=self._request.role,
                depth=self._request.depth,
                model=self._model.name,
                usage=usage,
                cost_usd=cost_usd,
                assumed_tokens=assumed.tokens,
                assumed_usd=assumed.usd,
            )
        )
