"""The scripted model: answers, errors, records, and usage with a prefix cache."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.errors import ModelError, RateLimitedError
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.ports import Model
from rlm.testing import ScriptedModel, VirtualClock
from rlm.testing.scripted import ScriptExhaustedError


def say(*contents: str) -> Request:
    roles = ("user", "assistant")
    return Request(tuple(Message(roles[index % 2], text) for index, text in enumerate(contents)))  # type: ignore[arg-type]


async def test_sequence_answers_in_order_until_exhausted() -> None:
    whole = Reply("as given", Usage(1, 10, output_tokens=3), "other:name", cost_usd=0.5)
    model: Model = ScriptedModel(["one", RateLimitedError("slow down", retry_after_s=2), whole])
    assert (await model.ask(say("a"))).text == "one"
    with pytest.raises(RateLimitedError) as caught:
        await model.ask(say("b"))
    assert caught.value.retry_after_s == 2
    assert await model.ask(say("c")) is whole
    with pytest.raises(ScriptExhaustedError, match="'the fourth'"):
        await model.ask(say("the fourth"))


async def test_script_can_be_sync_or_async_function() -> None:
    async def script(request: Request) -> str | ModelError:
        await asyncio.sleep(0)
        return f"{request.role} {request.depth}: {request.messages[-1].text.upper()}"

    model = ScriptedModel(script, name="scripted:leaf", window_tokens=77)
    reply = await model.ask(Request((Message("user", "hi"),), role="leaf", depth=2))
    assert (reply.text, reply.model) == ("leaf 2: HI", "scripted:leaf")
    assert (model.name, model.info.window_tokens) == ("scripted:leaf", 77)


async def test_growing_conversation_is_cached_up_to_last_turn() -> None:
    model = ScriptedModel(["r" * 400, "done", "other"])
    first = await model.ask(say("q" * 4000))
    second = await model.ask(say("q" * 4000, "r" * 400, "next"))
    changed = await model.ask(say("Q" + "q" * 3999, "r" * 400, "next"))
    assert first.usage.cached_tokens == 0
    assert first.usage.input_tokens <= second.usage.cached_tokens + 64
    assert second.usage.cached_tokens < second.usage.input_tokens
    assert changed.usage.cached_tokens == 0, "a change at the start must lose the whole prefix"


def test_latencies_of_concurrent_calls_overlap() -> None:
    clock = VirtualClock()
    model = ScriptedModel(lambda request: "ok", latency_s=30.0)

    async def main() -> None:
        await asyncio.gather(*(model.ask(say(str(number))) for number in range(50)))

    clock.run(main())
    assert clock.now() == 30.0
    assert model.in_flight_max == 50
    assert [request.messages[0].text for request in model.requests] == [str(number) for number in range(50)]


def test_cancelled_calls_are_counted() -> None:
    clock = VirtualClock()
    model = ScriptedModel(lambda request: "ok", latency_s=30.0)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(model.ask(say("x")), 1)
        await model.ask(say("y"))

    clock.run(main())
    assert (model.cancelled, model.in_flight_max) == (1, 1)


async def test_rewritten_conversation_is_detected() -> None:
    model = ScriptedModel(["one", "two", "three"])
    first = (Message("system", "s"), Message("user", "u"))
    await model.ask(Request(first, role="node", cache_key="run:0"))
    await model.ask(
        Request((*first, Message("assistant", "one"), Message("user", "v")), role="node", cache_key="run:0")
    )
    rewritten = (*first, Message("assistant", "One"), Message("user", "v"), Message("user", "w"))
    with pytest.raises(AssertionError, match="rewritten at message 2"):
        await model.ask(Request(rewritten, role="node", cache_key="run:0"))
