"""A node whose conversation outgrows its model's window: it goes on, in virtual time, and the summaries are paid for."""

from __future__ import annotations

from rlm.core.bounds import text_bytes
from rlm.core.budget import Budget
from rlm.core.ids import RunId
from rlm.core.messages import Request, Usage
from rlm.core.question import Question
from rlm.engine.run import Run, RunSetup
from rlm.engine.settings import TreeSettings
from rlm.prompts import default_family
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import ScriptedCell, ScriptedModel, ScriptedSandbox, VirtualClock

WINDOW = 6_000
TURNS = 40


async def work(cell: ScriptedCell) -> None:
    cell.variables["seen"] = list(range(20))
    cell.print("output " * 300)


def answer(request: Request) -> str:
    if request.role == "leaf":
        return "Summary: forty rows, some of them read."
    done = request.task.turn if request.task else 0
    return "FINAL_VAR(seen)" if done == TURNS else f"Turn {done}.\n```repl\nwork()\n```"


def test_conversation_beyond_the_window_is_compacted() -> None:
    clock = VirtualClock()
    model = ScriptedModel(answer, window_tokens=WINDOW, latency_s=1.0)
    settings = TreeSettings(
        [model], lambda _: default_family, max_depth=0, max_turns=TURNS + 1, observation_chars=3_000
    )
    run = Run(
        RunSetup(
            id=RunId("r"),
            question=Question("q", "context"),
            settings=settings,
            sandbox=ScriptedSandbox({"work()": work}),
            scheduler=RunScheduler(),
            price_of=lambda _, usage: usage.total_tokens * 1e-6,
            budget=Budget(usd=5.0),
        )
    )
    result = clock.run(run.answer())
    assert (result.answer, result.status) == (list(range(20)), "complete")
    sizes = [sum(text_bytes(m.text) for m in request.messages) // 4 for request in model.requests]
    assert max(sizes) < WINDOW
    summaries = [request for request in model.requests if request.role == "leaf"]
    assert 3 < len(summaries) < TURNS / 3
    assert all("seen (list" in request.messages[-1].text for request in summaries)
    assert result.usage.total.usage.calls == len(model.requests) == TURNS + len(summaries)
    assert result.used["calls"].used == len(model.requests)
    assert result.tree is not None
    by_turn = result.tree.calls_by_turn()
    assert [turn.turn for turn, _ in by_turn] == list(range(1, TURNS + 1))
    assert [turn.id + ".summary" for turn, calls in by_turn if calls] == [
        call.id for _, calls in by_turn for call in calls
    ]
    # Between two compactions the conversation only grows at its end.
    for before, after in zip(model.requests, model.requests[1:], strict=False):
        if before.role == after.role == "node":
            assert after.messages[: len(before.messages)] == before.messages
    assert isinstance(result.usage.total.usage, Usage)
