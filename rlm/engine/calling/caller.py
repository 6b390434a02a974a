"""Makes the model calls of a run. Node turns and leaf calls share one path, ``Caller.make_call``.

A turn can be accepted before its stream ends. Its reply is then one event, and its bill at the end of the stream another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

from rlm.core.endings import CutRule, thinks_aloud
from rlm.core.errors import ModelError
from rlm.core.messages import Reply, Usage
from rlm.engine.calling.attempts import Attempts
from rlm.engine.calling.cache import CountingCache
from rlm.engine.calling.call import Call, CallServices
from rlm.engine.calling.prefix_warmup import PrefixWarmup, WarmRule
from rlm.engine.calling.streaming import FirstText, StreamDrain, TurnStream
from rlm.engine.calling.user_models import check_reply, translate
from rlm.ports import Scheduler, can_stream


class Caller:
    """Makes the calls of one run. ``drain`` holds the accepted turns whose streams still go on."""

    def __init__(
        self,
        scheduler: Scheduler,
        services: CallServices,
        cache: CountingCache | None = None,
        *,
        hedge: bool = True,
        warm_prefixes: WarmRule = "auto",
    ) -> None:
        self._scheduler = scheduler
        self._attempts = Attempts(scheduler, hedge=hedge)
        self._warmup = PrefixWarmup(warm_prefixes)
        self._cache = cache
        self.services = services
        self.recorder = services.recorder
        self.reservations = services.reservations
        self.meter = services.meter
        self.drain = StreamDrain()

    async def make_call(self, call: Call) -> Reply:
        """Make attempts until one replies or no retry is worth it. Each reserves, takes a slot, asks, and settles.

        A call that waits for budget or for a retry holds no slot. A call that a listener reads is streamed if the model can.

        Raises:
            BudgetExceededError: nothing was sent, or a retry does not fit the budget.
            ModelError: the last attempt's. A missing reply is a ModelTimeoutError.
        """
        await call.reserve()
        call.start()
        number, slot = 0, None
        try:
            while True:
                number += 1
                slot = await self._scheduler.acquire(call.model, call.request, call.node, slot)
                try:
                    call.send(number)
                    attempt, answered = self._attempts.begin(call, slot), False
                    try:
                        reply = check_reply(call.model, await _send(call))
                        slot.succeeded(reply)
                        answered = True
                    except asyncio.CancelledError:
                        if not attempt.resume():
                            raise
                        if attempt.reply is None:
                            raise self._attempts.timeout_error(attempt) from None
                        reply, answered = attempt.reply, True
                    except Exception as error:  # noqa: BLE001  translated or raised again
                        raise translate(call.model, error)  # noqa: B904  it has its cause
                    finally:
                        self._attempts.end(attempt, answered=answered)
                except ModelError as error:
                    delay_s = slot.failed(error)
                    if delay_s is None or call.is_accepted:
                        raise
                    call.retry(error, number, delay_s)
                else:
                    call.succeed(reply)
                    if call.cell is not None:
                        self._warmup.observe(call.model, reply)
                    return reply
                finally:
                    slot.release()
                await asyncio.sleep(delay_s)
                await call.reserve()
        except BaseException as error:
            call.fail(error)
            raise

    def ask(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """Return a complete reply, from the cache if it is there. Not a coroutine function: it would be one more frame.

        Raises:
            BudgetExceededError: before anything is sent, or in place of a retry.
            ModelError: the last attempt's.
        """
        # A reply in JSON is not streamed, so it has no first word that others could wait for.
        if call.batch is not None and call.request.schema is None and self._warmup.applies(call.model, call.prompt):
            return self._ask_after_prefix(call)
        return self._ask_cache(self._cache, call) if self._cache and call.cell is not None else self.make_call(call)

    async def _ask_after_prefix(self, call: Call) -> Reply:
        """Ask once the prefix that the call shares with its batch is cached, or ask first, to have it cached."""
        batch = (call.node, call.turn, call.cell, call.batch)
        async with self._warmup.join(call.model, batch, call.prompt) as ticket:
            if ticket.shared_chars:
                call.request = replace(call.request, shared_chars=ticket.shared_chars)
            if ticket.first_text is not None:
                call.listener = FirstText(ticket.first_text)
            ticket.reply = await (self._ask_cache(self._cache, call) if self._cache else self.make_call(call))
            return ticket.reply

    async def _ask_cache(self, cache: CountingCache, call: Call) -> Reply:
        occurrence = cache.count(call.model.name, call.request)
        cached = await cache.get(call.model, call.request, occurrence)
        if cached is None:
            reply = await self.make_call(call)
            cache.put(call.model, call.request, occurrence, reply)
            return reply
        call.start()  # an answer from an earlier run is a call in the record, and free
        call.emit_reply(cached, 0.0, cached=True)
        return cached

    async def ask_turn(
        self, call: Call, *, rule: CutRule = "never", on_billed: Callable[[Reply], None] = lambda _: None
    ) -> Reply:
        """Return a node turn's reply as soon as its end is known by ``rule``.

        The rest of its stream is then read in the background, with its slot and reservation held until it ends. The reply has
        no usage in that case. ``on_billed`` receives it later with its usage.

        Raises:
            BudgetExceededError, ModelError: as ``ask``.
        """
        model = call.model
        if rule == "never" or not can_stream(model):
            return await self.make_call(call)
        accepted: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def accept(text: str) -> None:
            reply = Reply(text, Usage(), model.name)
            call.emit_reply(reply, 0.0, billed=False)
            if not accepted.done():
                accepted.set_result(reply)

        async def read_to_end() -> Reply:
            reply = await self.make_call(call)
            if accepted.done():
                on_billed(replace(reply, text=accepted.result().text))
            return reply

        call.listener = TurnStream(rule, thinking=thinks_aloud(model.name, call.request.messages), on_accept=accept)
        task = asyncio.create_task(read_to_end())
        try:
            await asyncio.wait((task, accepted), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        if not accepted.done():
            return await task
        self.drain.add(task)
        return accepted.result()


def _send(call: Call) -> Coroutine[Any, Any, Reply]:
    """Ask the model once, for the caller to await."""
    schema = call.request.schema
    if schema is not None:
        structured: Any = import_module("rlm.engine.calling.structured")  # most calls have no schema
        return cast("Coroutine[Any, Any, Reply]", structured.ask_structured(call.model, call.request, schema))
    if call.listener is not None and can_stream(call.model):
        return call.model.stream(call.request, call.listener.start_attempt())
    return call.model.ask(call.request)
