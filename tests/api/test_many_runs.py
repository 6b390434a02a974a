"""Many runs at once in one process: REPLs are admitted by memory, the rest wait in a queue, and no run is lost."""

from __future__ import annotations

import asyncio
import os
import resource
from collections import defaultdict

from rlm import RLM
from rlm.core.events import AnyEvent, NodeFinished, NodeQueued, NodeStarted
from rlm.core.ids import ROOT, RunId
from rlm.core.messages import Request
from rlm.core.question import Question
from rlm.engine.run import Run, RunSetup
from rlm.engine.settings import TreeSettings
from rlm.prompts import default_family
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.memory.admission import NEW_MB, ROOT_SHARE, floor_mb
from rlm.sandbox.memory.meter import Memory
from rlm.sandbox.sandbox import WorkerSandbox
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import ScriptedModel
from rlm.views.formatting import describe_node
from rlm.views.progress import Progress

RUNS = int(os.environ.get("RLM_TEST_RUNS", "100"))  # 1,000 is the size of the issue
TOTAL_MB = 4_000
ROOM = 30  # REPLs


def answer(request: Request) -> str:
    is_second = any(message.role == "assistant" for message in request.messages)
    return "FINAL(done)" if is_second else "```repl\nprint(len(context))\n```"


class LimitedSandbox(WorkerSandbox):
    """A sandbox on a machine with memory for ``ROOM`` REPLs of 8 MB."""

    most = 0

    def __init__(self) -> None:
        super().__init__(open_launcher("auto"), self._memory)

    def _memory(self) -> Memory:
        self.most = max(self.most, len(self._repls))
        free = ROOT_SHARE * floor_mb(Memory(0, TOTAL_MB)) + NEW_MB * (ROOM - len(self._repls))
        return Memory(free, TOTAL_MB)


async def run_all(engine: RLM, count: int) -> list[object]:
    results = await asyncio.gather(*(engine.arun(f"question {number}", "text") for number in range(count)))
    return [result.answer for result in results]


def new_run(number: int, sandbox: WorkerSandbox, events: list[AnyEvent]) -> Run:
    settings = TreeSettings(
        [ScriptedModel(answer)], lambda _: default_family, max_depth=0, max_turns=3, observation_chars=1_000
    )
    return Run(
        RunSetup(
            id=RunId(str(number)),
            question=Question("q", "text"),
            settings=settings,
            sandbox=sandbox,
            scheduler=RunScheduler(),
            price_of=lambda _name, _usage: None,
            sinks=(events.append,),
        )
    )


async def test_runs_beyond_the_memory_wait_in_a_queue() -> None:
    sandbox = LimitedSandbox()
    events: list[AnyEvent] = []
    try:
        results = await asyncio.gather(*(new_run(number, sandbox, events).answer() for number in range(RUNS)))
    finally:
        await sandbox.aclose()
    assert [result.answer for result in results] == ["done"] * RUNS
    assert ROOM // 2 < sandbox.most <= ROOM + 1
    places = defaultdict[str, list[int]](list)
    for event in events:
        if isinstance(event, NodeQueued):
            places[event.run].append(event.place)
    assert len(places) >= RUNS - ROOM - 1
    assert max(max(own) for own in places.values()) > RUNS // 2
    assert all(own == sorted(own, reverse=True) for own in places.values())  # nobody is overtaken
    assert sum(isinstance(event, NodeFinished) for event in events) == RUNS


async def test_memory_of_the_host_stays_flat() -> None:
    with RLM(ScriptedModel(answer), store=None) as engine:
        await run_all(engine, 10)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert await run_all(engine, RUNS) == ["done"] * RUNS
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * RUNS  # kilobytes of each


def test_view_shows_the_place_in_the_queue() -> None:
    progress = Progress()
    started = NodeStarted(
        run=RunId("r"), node=ROOT, at_s=0.0, parent=None, depth=0, model="m", question="q", context="text"
    )
    progress.add(started)
    progress.add(NodeQueued(run=started.run, node=started.node, at_s=0.0, place=1_200))
    assert progress.root is not None
    assert "waiting for memory, place 1,200" in describe_node(progress.root, 1.0)
