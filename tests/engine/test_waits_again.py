"""A cell that ends before an answer, and waits for it when it is executed again, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.errors import DivergenceError
from rlm.core.events import AnyEvent
from rlm.core.ids import RunId
from rlm.core.messages import Request
from rlm.core.question import Question
from rlm.core.result import Result
from rlm.engine.replay.ordering import END_GRACE_S
from rlm.engine.replay.policy import OnDivergence, ReplayPolicy
from rlm.engine.run import Run, RunSetup
from rlm.engine.settings import TreeSettings
from rlm.prompts import default_family
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import ScriptedCell, ScriptedModel, ScriptedSandbox, VirtualClock


class Collector:
    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        self.events.append(event)


def reply(request: Request) -> str:
    if request.role == "leaf":
        return "late"
    return "FINAL_VAR(out)" if request.task and request.task.turn > 1 else "```repl\nwork()\n```"


def execute(
    clock: VirtualClock, past: list[AnyEvent], *, waits: bool, on_divergence: OnDivergence = "stop"
) -> tuple[Result, list[AnyEvent]]:
    """A run in which a cell asks, and waits for the answer or not."""
    sink = Collector()

    async def work(cell: ScriptedCell) -> None:
        asked = asyncio.ensure_future(cell.query("slow"))
        if waits:
            cell.variables["out"] = await asked
        else:
            await asyncio.sleep(0.1)
            asked.cancel()
            cell.variables["out"] = "nothing"

    model = ScriptedModel(reply, latency_s=5.0)
    run = Run(
        RunSetup(
            id=RunId("r"),
            question=Question("q", "context"),
            settings=TreeSettings([model], lambda _: default_family, max_depth=1, max_turns=5, observation_chars=3_000),
            sandbox=ScriptedSandbox({"work()": work}),
            scheduler=RunScheduler(),
            price_of=lambda *_: None,
            sinks=[sink],
            past=past,
            policy=ReplayPolicy(on_divergence=on_divergence),
        )
    )
    return clock.run(run.answer()), sink.events


def test_waiting_cell_diverges_after_its_grace() -> None:
    first, events = execute(VirtualClock(), [], waits=False)
    assert first.answer == "nothing"
    again, _ = execute(VirtualClock(), events, waits=False)
    assert again.answer == "nothing"
    clock = VirtualClock()
    with pytest.raises(DivergenceError, match="waits for the answer to 'slow'"):
        execute(clock, events, waits=True)
    assert END_GRACE_S <= clock.now() < 2 * END_GRACE_S
    paid, _ = execute(VirtualClock(), events, waits=True, on_divergence="pay")
    assert paid.answer == "late"
