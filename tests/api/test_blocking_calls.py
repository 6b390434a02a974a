"""Calls that would wait for the engine on the engine's own thread: refused, with the call to use instead."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import rlm
from rlm.testing.scripted import ScriptedModel

ANSWER = "```repl\nFINAL(1)\n```"
BLOCKING: dict[str, Callable[[rlm.RLM], object]] = {
    "run": lambda engine: engine.run("q", "c"),
    "resume": lambda engine: engine.resume("last"),
    "start_resume": lambda engine: engine.start_resume("last"),
    "replay": lambda engine: engine.replay("last"),
    "close": lambda engine: engine.close(),
    "result": lambda engine: engine.start("q", "c").result(),
}


@pytest.mark.parametrize("call", BLOCKING)
@pytest.mark.timeout(30)
def test_blocking_call_from_a_sink_is_refused(call: str) -> None:
    other = rlm.RLM(ScriptedModel(lambda _: ANSWER), store="memory")
    refused: list[str] = []

    class Blocking:
        def emit(self, event: object) -> None:
            if not refused:
                try:
                    BLOCKING[call](other)
                except rlm.BlockingCallError as error:
                    refused.append(str(error))

    with rlm.RLM(ScriptedModel(lambda _: ANSWER), sinks=[Blocking()]) as engine:
        assert engine.run("q", "c").answer == 1
    assert "arun()" in refused[0]


async def test_replay_and_close_work_from_any_loop() -> None:
    engine = rlm.RLM(ScriptedModel(lambda _: ANSWER), store="memory")
    first = await engine.arun("q", "c")
    assert (await engine.areplay(first.run_id)).answer == 1
    await engine.aclose()
    with pytest.raises(rlm.ConfigurationError, match="closed"):
        await engine.arun("q", "c")
