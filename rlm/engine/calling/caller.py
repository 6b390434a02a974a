"""Makes the model calls of a run. Turns of nodes and leaf calls are made alike, but that a turn may be taken while it still
arrives: it is then one event, and its bill, when the stream has ended, another."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from rlm.core.endings import CutRule, thinks_aloud
from rlm.core.events import AnyEvent, CallStarted
from rlm.core.messages import Reply, Request, Usage
from rlm.engine.calling.call import Call, CallServices
from rlm.engine.calling.streaming import FirstText, StreamDrain, TurnStream
from rlm.ports import AnswerCache, Scheduler, can_stream


class Caller:
    """Makes the calls of one run."""

    def __init__(self, scheduler: Scheduler, till: CallServices, cache: CountingCache | None = None) -> None:
        self._cache = cache
        self._scheduler = scheduler
        self.till = till
        self.recorder = till.recorder
        self.holds = till.holds
        self.meter = till.meter
        self.rests = StreamDrain()

    def ask(self, call: Call, first_word: asyncio.Event | None = None) -> Coroutine[Any, Any, Reply]:
        """A whole reply. Whatever becomes of the call, what it costs is counted. ``first_word`` is set when the reply begins.

        Raises:
            BudgetExceededError: before anything is sent, or in place of a further attempt.
            ModelError: after all attempts.
        """
        if first_word is not None:
            call.hearing = FirstText(first_word)
        if self._cache is not None and call.cell is not None:
            return self._ask_cache(self._cache, call)
        return self._ask(call)

    async def _ask_cache(self, cache: CountingCache, call: Call) -> Reply:
        occurrence = cache.count(call.model.name, call.request)
        known = await cache.get(call.model, call.request, occurrence)
        if known is None:
            reply = await self._ask(call)
            cache.put(call.model, call.request, occurrence, reply)
            return reply
        call.begin()  # an answer from an earlier run is seen as a call, and free
        call.reply(known, 0.0, cached=True)
        return known

    async def ask_turn(
        self, call: Call, *, rule: CutRule = "never", billed: Callable[[Reply], None] = lambda _: None
    ) -> Reply:
        """As ``ask``, for a node's turn: its reply is taken as soon as it is known where it ends, by ``rule``.

        What then still comes is read beside whatever the turn goes on with; the slot and the hold are kept until it has ended.
        ``usage`` of the reply is empty in that case, and ``billed`` is told the reply with its usage later.
        """
        model = call.model
        if rule == "never" or not can_stream(model):
            return await self._ask(call)
        taken: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def take(text: str) -> None:
            reply = Reply(text, Usage(), model.name)
            call.reply(reply, 0.0, billed=False)
            if not taken.done():
                taken.set_result(reply)

        def bill(reply: Reply) -> None:
            billed(replace(reply, text=taken.result().text))

        call.hearing = TurnStream(rule, thinking=thinks_aloud(model.name, call.request.messages), decide=take)
        task = asyncio.create_task(self._ask(call, bill))
        try:
            await asyncio.wait((task, taken), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        if not taken.done():
            return await task
        self.rests.add(task)
        return taken.result()

    async def _ask(self, call: Call, billed: Callable[[Reply], None] | None = None) -> Reply:
        call.hold = await self.holds.take(call.need)
        call.begin()
        try:
            reply = await self._scheduler.ask(call.model, call.request, node=call.node, observer=call)
        except BaseException as error:
            call.fail(error)
            raise
        if billed is not None and call.decided:
            call.settle_later(reply)
            billed(reply)
            return reply
        call.reply(reply, call.settle(reply))
        return reply


class CountingCache:
    """A cache, with the count of equal requests of one run: asking the same five times takes five answers, not one.

    ``past`` is what of the run is on record: what was asked then is counted too, so that it does not get its own answers.
    """

    def __init__(self, cache: AnswerCache, past: Sequence[AnyEvent] = ()) -> None:
        self.get = cache.get
        self.put = cache.put
        self._asked = Counter[tuple[str, Request]]()
        asked = {event.call: event for event in past if isinstance(event, CallStarted) and event.cell is not None}
        for event in asked.values():
            self.count(event.model, event.request)

    def count(self, model: str, request: Request) -> int:
        key = (model, replace(request, schema=None, depth=0, cache_key=str(request.schema)))
        self._asked[key] += 1
        return self._asked[key]
