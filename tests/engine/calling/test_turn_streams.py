"""Turns accepted before their stream ends: what is returned, billed and retried, and how streams are drained."""

from __future__ import annotations

import asyncio

import pytest
from call_kit import LATENCY_S, USAGE, WORST_TOKENS, CallBench, StreamedModel

from rlm.core.errors import ModelError, ProviderUnavailableError, ProviderUnreachableError
from rlm.core.events import CallBilled, CallReplied
from rlm.core.messages import Reply, Usage
from rlm.engine.calling.streaming import FirstText

CELL = "```repl\nrun()\n```\n"
INVENTED = "Output: 42\n"
PIECES = ("Look.\n", CELL, INVENTED, "and so on\n", "and on\n")
ACCEPTED_AT = 3 * LATENCY_S  # with the piece that invents output
ENDS_AT = 6 * LATENCY_S
TOKENS = USAGE.total_tokens


def bench(model: StreamedModel, **options: float) -> CallBench:
    return CallBench(model, **options)  # type: ignore[arg-type]


def streamed(*answers: str | ModelError, pieces: tuple[str, ...] = PIECES) -> StreamedModel:
    return StreamedModel(lambda number: answers[min(number, len(answers)) - 1], pieces=pieces)


def test_turn_is_returned_before_its_stream_ends() -> None:
    rig = bench(streamed("ok"))
    billed: list[Reply] = []

    async def main() -> Reply:
        reply = await rig.caller.ask_turn(rig.call(role="node"), rule="invented", on_billed=billed.append)
        assert rig.clock.now() == ACCEPTED_AT
        assert rig.log.kinds == ["started", "sent", "replied"]
        assert billed == []
        assert await rig.state_at(ENDS_AT - 0.5) == (WORST_TOKENS, 1)
        await asyncio.sleep(1)
        return reply

    reply = rig.clock.run(main())
    assert (reply.text, reply.usage) == ("Look.\n" + CELL, Usage())
    assert billed == [Reply(reply.text, USAGE, "scripted:timed")]
    assert rig.log.kinds == ["started", "sent", "replied", "billed"]
    replied = rig.log.only(CallReplied)
    assert isinstance(replied, CallReplied)
    assert not replied.billed
    assert rig.spent == (1, TOKENS, 0)


def test_stream_reader_reports_that_it_is_satisfied() -> None:
    model = streamed("ok")
    rig = bench(model)

    async def main() -> None:
        await rig.caller.ask_turn(rig.call(role="node"), rule="invented")
        await rig.caller.drain.finish(60)

    rig.clock.run(main())
    assert model.satisfied_at == ACCEPTED_AT


def test_turn_without_an_early_end_is_one_reply() -> None:
    rig = bench(streamed("ok", pieces=("Look.\n", CELL, "Then we see.\n")))
    reply = rig.clock.run(rig.caller.ask_turn(rig.call(role="node"), rule="invented"))
    assert (reply.text, reply.usage) == ("Look.\n" + CELL + "Then we see.\n", USAGE)
    assert rig.log.kinds == ["started", "sent", "replied"]
    assert rig.spent == (1, TOKENS, 0)


def test_stream_that_breaks_after_acceptance_is_not_retried() -> None:
    model = streamed(ProviderUnreachableError("broke off"))
    rig = bench(model)

    async def main() -> Reply:
        reply = await rig.caller.ask_turn(rig.call(role="node"), rule="invented")
        await rig.caller.drain.finish(60)
        return reply

    assert rig.clock.run(main()).text == "Look.\n" + CELL
    assert len(model.sent_at) == 1
    billed = rig.log.only(CallBilled)
    assert isinstance(billed, CallBilled)
    assert (billed.usage.calls, billed.assumed_tokens) == (1, WORST_TOKENS)
    assert rig.log.kinds == ["started", "sent", "replied", "billed"]
    assert rig.spent == (1, WORST_TOKENS, WORST_TOKENS)


def test_error_status_after_acceptance_is_not_free() -> None:
    rig = bench(streamed(ProviderUnavailableError("overloaded", status=529)))

    async def main() -> None:
        await rig.caller.ask_turn(rig.call(role="node"), rule="invented")
        await rig.caller.drain.finish(60)

    rig.clock.run(main())
    assert rig.spent == (1, WORST_TOKENS, WORST_TOKENS)


def test_retry_forgets_the_text_of_the_broken_stream() -> None:
    """The first stream ends within a cell, which must not open a cell in the second."""

    class Breaks(StreamedModel):
        async def stream(self, request, on_text):  # type: ignore[no-untyped-def]  # as the port says
            self.pieces = ("```repl\nhalf",) if not self.sent_at else PIECES
            return await super().stream(request, on_text)

    model = Breaks(lambda number: ProviderUnreachableError("broke off") if number == 1 else "ok")
    rig = bench(model)

    async def main() -> Reply:
        reply = await rig.caller.ask_turn(rig.call(role="node"), rule="invented")
        await rig.caller.drain.finish(60)
        return reply

    assert rig.clock.run(main()).text == "Look.\n" + CELL
    assert len(model.sent_at) == 2
    assert rig.log.kinds == ["started", "sent", "billed", "retried", "sent", "replied", "billed"]


def test_cancelled_turn_cancels_its_stream() -> None:
    rig = bench(streamed("ok"))

    async def main() -> None:
        task = asyncio.create_task(rig.caller.ask_turn(rig.call(role="node"), rule="invented"))
        await asyncio.sleep(ACCEPTED_AT - 0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    rig.clock.run(main())
    assert rig.log.kinds == ["started", "sent", "billed", "failed"]
    assert rig.spent == (1, WORST_TOKENS, WORST_TOKENS)


def test_drain_cancels_streams_after_its_timeout() -> None:
    rig = bench(streamed("ok"))

    async def main() -> None:
        await rig.caller.ask_turn(rig.call(role="node"), rule="invented")
        await rig.caller.drain.finish(1.0)
        assert rig.clock.now() == ACCEPTED_AT + 1.0

    rig.clock.run(main())
    assert rig.log.kinds == ["started", "sent", "replied", "billed"]
    assert rig.spent == (1, WORST_TOKENS, WORST_TOKENS)


def test_first_text_is_signalled_before_the_reply() -> None:
    rig = bench(streamed("ok", pieces=("a", "b", "c")))

    async def main() -> Reply:
        first_text = asyncio.Event()
        call = rig.call()
        call.listener = FirstText(first_text)
        task = asyncio.create_task(rig.caller.ask(call))
        await first_text.wait()
        assert rig.clock.now() == LATENCY_S
        return await task

    assert rig.clock.run(main()).text == "abc"
    assert rig.log.kinds == ["started", "sent", "replied"]
