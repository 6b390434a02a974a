"""Makes the model calls of a run. Node turns and leaf calls share one path, ``make_call``.

A turn can be accepted before its stream ends. Its reply is then one event, and its bill at the end of the stream another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from rlm.core.endings import CutRule, thinks_aloud
from rlm.core.errors import ModelError, ModelTimeoutError
from rlm.core.messages import Reply, Usage
from rlm.engine.calling.cache import CountingCache
from rlm.engine.calling.call import Call, CallServices
from rlm.engine.calling.hedging import Hedging
from rlm.engine.calling.streaming import FirstText, StreamDrain, TurnStream
from rlm.engine.calling.structured import ask_structured
from rlm.ports import Scheduler, Slot, can_stream


class Caller:
    """Makes the calls of one run. ``drain`` holds the accepted turns whose streams still go on."""

    def __init__(
        self, scheduler: Scheduler, services: CallServices, cache: CountingCache | None = None, *, hedge: bool = True
    ) -> None:
        self._scheduler = scheduler
        self._hedging = Hedging(scheduler) if hedge else None
        self._cache = cache
        self.services = services
        self.recorder = services.recorder
        self.reservations = services.reservations
        self.meter = services.meter
        self.drain = StreamDrain()

    def ask(self, call: Call, first_text: asyncio.Event | None = None) -> Coroutine[Any, Any, Reply]:
        """Return a complete reply, from the cache if it is there. ``first_text`` is set when the reply starts to stream.

        Raises:
            BudgetExceededError: before anything is sent, or in place of a retry.
            ModelError: the last attempt's.
        """
        if first_text is not None:
            call.listener = FirstText(first_text)
        if self._cache is not None and call.cell is not None:
            return self._ask_cache(self._cache, call)
        return make_call(call, self._scheduler, self._hedging)

    async def _ask_cache(self, cache: CountingCache, call: Call) -> Reply:
        occurrence = cache.count(call.model.name, call.request)
        cached = await cache.get(call.model, call.request, occurrence)
        if cached is None:
            reply = await make_call(call, self._scheduler, self._hedging)
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
            return await make_call(call, self._scheduler, self._hedging)
        accepted: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def accept(text: str) -> None:
            reply = Reply(text, Usage(), model.name)
            call.emit_reply(reply, 0.0, billed=False)
            if not accepted.done():
                accepted.set_result(reply)

        async def read_to_end() -> Reply:
            reply = await make_call(call, self._scheduler, self._hedging)
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


async def make_call(call: Call, scheduler: Scheduler, hedging: Hedging | None = None) -> Reply:
    """Make attempts until one replies or no retry is worth it. Each reserves, takes a slot, asks, and settles.

    A call that waits for budget or for a retry holds no slot.

    Raises:
        BudgetExceededError: nothing was sent, or a retry does not fit the budget.
        ModelError: the last attempt's.
    """
    await call.reserve()
    call.start()
    attempt, slot = 0, None
    try:
        while True:
            attempt += 1
            slot = await scheduler.acquire(call.model, call.request, call.node, slot)
            try:
                call.send(attempt)
                reply = await make_attempt(call, slot, scheduler.call_timeout_s, hedging)
            except ModelError as error:
                delay_s = slot.failed(error)
                if delay_s is None or call.is_accepted:
                    raise
                call.retry(error, attempt, delay_s)
            else:
                call.succeed(reply)
                return reply
            finally:
                slot.release()
            await asyncio.sleep(delay_s)
            await call.reserve()
    except BaseException as error:
        call.fail(error)
        raise


async def make_attempt(call: Call, slot: Slot, call_timeout_s: float, hedging: Hedging | None) -> Reply:
    """Ask the model once, streamed if a listener needs the text before the reply is complete.

    A reply that streams is given the whole ``call_timeout_s``: it shows that it has not stalled. A call of a batch can be hedged.

    Raises:
        ModelError: no usable reply, or none within the deadline.
    """
    model, attempt, reply = call.model, None, None
    timeout_s = slot.timeout_s if call.listener is None else call_timeout_s
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            if call.listener is not None and can_stream(model):
                reply = await model.stream(call.request, call.listener.start_attempt())
            else:
                if hedging is not None and call.batch is not None:
                    attempt = hedging.watch(call, slot, timeout)
                schema = call.request.schema
                reply = await (
                    model.ask(call.request) if schema is None else ask_structured(model, call.request, schema)
                )
        slot.succeeded(reply)
        return reply
    except TimeoutError:
        if attempt is not None and attempt.reply is not None:
            reply = attempt.reply
            return reply
        if attempt is not None:
            timeout_s = min(timeout_s, slot.timeout_s)
        advice = (
            "Allow more with call_timeout_s" if timeout_s >= call_timeout_s else "Similar calls take a tenth of that"
        )
        raise ModelTimeoutError(
            f"{model.name} did not reply within {timeout_s:g} s. {advice}.", model=model.name
        ) from None
    finally:
        if attempt is not None and hedging is not None:
            hedging.unwatch(attempt, answered=reply is not None)
