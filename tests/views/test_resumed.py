"""Views of a resumed run: they show its present state, not its past one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from pathlib import Path

import pytest

import rlm
from rlm.core.errors import ModelError, OutOfCreditError, RLMError
from rlm.core.events import AnyEvent, RunResumed, RunStarted
from rlm.core.ids import ROOT, RunId
from rlm.core.messages import Request
from rlm.prompts import answer_now
from rlm.testing.scripted import ScriptedModel
from rlm.views.layout import Row, outline
from rlm.views.plain import HEARTBEAT_S, Narrator
from rlm.views.progress import Progress


class Watcher:
    """A sink that records the outline after each event."""

    def __init__(self) -> None:
        self.progress = Progress()
        self.frames: list[tuple[AnyEvent, Row | None]] = []

    def emit(self, event: AnyEvent) -> None:
        self.progress.add(event)
        self.frames.append((event, outline(self.progress, event.at_s, 30)))

    @property
    def last(self) -> Row:
        row = self.frames[-1][1]
        assert row is not None
        return row

    def since_resumed(self) -> list[Row]:
        """The rows of the root since the resume."""
        start = max(number for number, (event, _) in enumerate(self.frames) if isinstance(event, RunResumed))
        return [row for _, row in self.frames[start:] if row is not None]


def block(code: str) -> str:
    return f"```repl\n{code}\n```"


def turn_of(request: Request) -> int:
    return sum(message.role == "assistant" for message in request.messages) + 1


def test_run_continues_after_a_limit(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        if request.role == "leaf":
            return "leaf"
        if request.messages[-1].text.endswith(answer_now("iterations")):
            return block("forced = 1") + "\nFINAL(partly)"
        return block(f"x = llm_query('{turn_of(request)}')") if turn_of(request) < 4 else "FINAL(whole)"

    watcher = Watcher()
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", max_iterations=2) as first:
        assert first.run("q", "context").status == "partial"
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", sinks=[watcher]) as more:
        assert more.resume("last", budget=rlm.Budget(iterations=9)).answer == "whole"
    assert watcher.last.mark == "done"
    assert [row.text.split()[1] for row in watcher.last.children] == ["1.1", "2.1", "3.1"]
    assert "forced" not in str(watcher.last)
    assert {row.mark for row in watcher.since_resumed()[:-2]} == {"running"}
    assert (watcher.progress.limit, watcher.progress.nodes.total, watcher.progress.nodes.done) == (None, 1, 1)


def test_failed_call_asked_again_counts_once(tmp_path: Path) -> None:
    broke = True

    def script(request: Request) -> str | ModelError:
        prompt = request.messages[-1].text
        if broke and prompt == "b":
            return OutOfCreditError("no credit left")
        if request.role == "leaf":
            return prompt
        if request.depth:
            return block("FINAL(llm_query('b'))")
        return block("FINAL([llm_query_batch(['a', 'b', 'c'], recursive=False), rlm_query('child')])")

    watcher = Watcher()
    with (
        rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", max_depth=2) as first,
        pytest.raises(OutOfCreditError),
    ):
        first.run("q", "context")
    broke = False
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", max_depth=2, sinks=[watcher]) as again:
        again.resume("last")
    batch = watcher.last.children[0].children[0]
    assert (batch.mark, batch.text) == ("done", "batch of 3: 3 done")
    progress = watcher.progress
    assert (progress.calls.failed, progress.calls.open, progress.nodes.failed) == (0, 0, 0)
    assert progress.nodes.done == 2


def test_useless_and_refused_subcalls_count_as_failed() -> None:
    def script(request: Request) -> str:
        if request.role == "leaf":
            return "no json"
        code = "x = llm_query_batch(['a', 'b', 'c', 'd', 'e'], schema={'type': 'object'})"
        return block(code) if turn_of(request) == 1 else "FINAL(1)"

    watcher = Watcher()
    with rlm.RLM(ScriptedModel(script), store=None, sinks=[watcher], budget=rlm.Budget(calls=4)) as engine:
        engine.run("q", "context")
    assert (
        watcher.last.children[0].children[0].text == "batch of 5: 5 failed"
    )  # two replies, and three that were refused


def test_cancelled_run_shows_cancelled_calls() -> None:
    watcher, asked = Watcher(), threading.Event()

    async def never() -> str:
        asked.set()
        await asyncio.sleep(60)
        return ""

    def script(request: Request) -> str | Awaitable[str]:
        return never() if request.role == "leaf" else block("x = llm_query_batch(['a', 'b'])")

    with rlm.RLM(ScriptedModel(script), store=None, sinks=[watcher]) as engine:
        handle = engine.start("q", "context")
        asked.wait(30)
        handle.cancel()
        with pytest.raises(RLMError):
            handle.result()
    cell = watcher.last.children[0]
    assert cell.text.startswith("cell 1.1 interrupted")
    assert cell.children[0].text == "batch of 2: 2 cancelled"


def test_interrupted_cell_continues(tmp_path: Path) -> None:
    broke = True

    def script(request: Request) -> str | ModelError:
        prompt = request.messages[-1].text
        if request.role == "leaf":
            return OutOfCreditError("no credit left") if broke and prompt == "late" else prompt
        return block("x = llm_query_batch(['a', 'b', 'c', 'd'])\ny = llm_query('late')\nFINAL(y)")

    watcher = Watcher()
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db") as engine, pytest.raises(OutOfCreditError):
        engine.run("q", "context")
    broke = False
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", sinks=[watcher]) as engine:
        assert engine.resume("last").answer == "late"
    rows = watcher.since_resumed()
    assert rows[0].children[0].mark == "running"
    assert [row.text for row in rows[-1].children[0].children] == ["batch of 4: 4 done", "1 sub-call: 1 done"]


def test_refused_subcall_counts_once_after_resume(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        if request.role == "leaf":
            return "leaf"
        if request.messages[-1].text.endswith(answer_now("calls")):
            return "FINAL(partly)"
        return block("x = llm_query_batch([str(i) for i in range(9)])\nFINAL(len(x))")

    watcher = Watcher()
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", budget=rlm.Budget(calls=5)) as engine:
        assert engine.run("q", "context").status == "partial"
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", sinks=[watcher]) as engine:
        assert engine.resume("last", budget=rlm.Budget(calls=50)).status == "complete"
    assert [row.text for row in watcher.last.children[0].children] == ["batch of 9: 9 done"]
    assert watcher.last.children[0].mark == "done"
    running = next(row for row in watcher.since_resumed() if row.children[0].mark == "running")
    assert "cell 1.1, " in running.children[0].text


def test_heartbeat_restarts_after_resume() -> None:
    narrator, run = Narrator(), RunId("r")
    narrator.narrate(
        RunStarted(
            run=run, node=ROOT, at_s=0.0, question="q", context="c", models=("m",), max_depth=1, sandbox="strict"
        )
    )
    lines = narrator.narrate(RunResumed(run=run, node=ROOT, at_s=3600.0))
    assert lines[0].startswith("[ 3600.0s] resumed")
    assert narrator.heartbeat(3600.0 + HEARTBEAT_S - 1) is None
    assert narrator.heartbeat(3600.0 + HEARTBEAT_S + 1) is not None
