"""The handle of a run: result, await, events, cancel and finish, on any event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlm
from rlm.core.events import AnyEvent, RunFinished, RunStarted
from rlm.runtime.loop import BACKGROUND
from rlm.testing.scripted import ScriptedModel

STEPS = ["```repl\nprint(1)\n```", "```repl\nFINAL(2)\n```"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[rlm.RLM]:
    with rlm.RLM(ScriptedModel(STEPS), store=tmp_path / "runs.db") as engine:
        yield engine


async def test_awaiting_a_handle_gives_the_result(engine: rlm.RLM) -> None:
    run = engine.start("q", "c")
    result = await run
    assert (result.answer, result.run_id, run.done) == (2, run.run_id, True)
    assert run.result() is result


async def test_handle_iterates_over_all_events(engine: rlm.RLM) -> None:
    run = engine.start("q", "c")
    events = [event async for event in run]
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert run.result().answer == 2
    assert [event async for event in run.events()] == events, "a second loop sees the same events, also after the end"


async def test_two_loops_see_the_same_events(engine: rlm.RLM) -> None:
    run = engine.start("q", "c")

    async def collect() -> list[AnyEvent]:
        return [event async for event in run]

    first, second = await asyncio.gather(collect(), asyncio.to_thread(asyncio.run, collect()))
    assert first == second
    assert len(first) > 5


async def test_leaving_the_loop_cancels_the_run() -> None:
    model = ScriptedModel(lambda _: asyncio.sleep(30, "late"))
    with rlm.RLM(model) as engine:
        run = engine.start("q", "c")
        async for _ in run:
            break
        while not run.done:
            await asyncio.sleep(0.01)
        assert model.requests == [] or model.cancelled


async def test_cancelling_the_awaiting_task_cancels_the_run() -> None:
    model = ScriptedModel(lambda _: asyncio.sleep(30, "late"))
    with rlm.RLM(model) as engine:
        run = engine.start("q", "c")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await run
        while not model.cancelled:
            await asyncio.sleep(0.01)


async def test_cancelled_run_raises_after_its_last_event() -> None:
    seen: list[AnyEvent] = []
    with rlm.RLM(ScriptedModel(lambda _: asyncio.sleep(30, "late"))) as engine:
        run = engine.start("q", "c")

        async def collect() -> None:
            async for event in run:
                seen.append(event)
                run.cancel()

        with pytest.raises(rlm.RunCancelledError):
            await collect()
    assert isinstance(seen[-1], RunFinished)


def test_result_with_a_timeout_leaves_the_run_running() -> None:
    released = asyncio.Event()

    async def answer() -> str:
        await released.wait()
        return STEPS[1]

    with rlm.RLM(ScriptedModel(lambda _: answer())) as engine:
        run = engine.start("q", "c")
        with pytest.raises(TimeoutError):
            run.result(0.1)
        assert not run.done
        BACKGROUND.call(released.set)
        assert run.result().answer == 2


async def test_resume_and_replay_give_handles(engine: rlm.RLM) -> None:
    first = await engine.start("q", "c")
    replay = engine.start_replay("last")
    kinds = [type(event) async for event in replay]
    assert (kinds[0], kinds[-1], replay.result().answer) == (RunStarted, RunFinished, 2)
    resumed = engine.start_resume(first.run_id)
    assert ((await resumed).answer, resumed.run_id) == (2, first.run_id)


async def test_stream_has_no_result_before_its_end(engine: rlm.RLM) -> None:
    stream = engine.stream("q", "c")
    with pytest.raises(rlm.ConfigurationError, match="after the loop"):
        _ = stream.result
    assert len([event async for event in stream]) > 5
    assert stream.result.answer == 2
