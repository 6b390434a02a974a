"""Resumes under changed conditions: refused summaries, other folders, other children, other waits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts_kit import Answer, block, cells, turn_of

import rlm
from rlm.core.errors import ConfigurationError, NoAnswerError, StoreError
from rlm.core.messages import Request
from rlm.rlm_repl import RLM_REPL
from rlm.testing.scripted import ScriptedModel

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("budget", [rlm.Budget(tokens=40_000), rlm.Budget(calls=7)])
def test_refused_summary_is_not_asked_again(tmp_path: Path, budget: rlm.Budget) -> None:
    def script(request: Request) -> str:
        if request.role == "leaf":
            return "Summary."
        if "Answer now" in request.messages[-1].text:
            return "FINAL(partly)"
        turn = request.task.turn if request.task else 0
        return block(f"print('w{turn} ' * 1500)") if turn <= 8 else "FINAL(done)"

    def engine() -> tuple[rlm.RLM, ScriptedModel]:
        model = ScriptedModel(script, window_tokens=10_000)
        store = tmp_path / "runs.db"
        return rlm.RLM(model, store=store, observation_chars=6_000, max_output_tokens=1_000, budget=budget), model

    assert engine()[0].run("q", "context").answer == "partly"
    for again in ("replay", "resume"):
        run, model = engine()
        assert getattr(run, again)("last").answer == "partly"
        assert model.requests == []


def test_new_child_in_an_old_place_is_asked(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("one")
    codes = (
        f"seen = open({str(outside)!r}).read()\nprint(seen)",
        "print(1)",
        "r = str(llm_query_batch(['about ' + seen], context='ctx ' + seen)[0])\nprint(r)",
        "FINAL(r)",
    )

    def engine(child: str) -> rlm.RLM:
        def script(request: Request) -> str:
            return child if request.depth else block(codes[min(turn_of(request), 4) - 1])

        return rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", sandbox="unconfined", max_depth=2)

    assert "NoAnswerError" in str(engine("nothing of use").run("q", "context").answer)
    outside.write_text("two")
    paid = engine("FINAL_VAR(context)").resume("last", on_divergence="pay")
    assert paid.answer == "ctx two"
    assert paid.tree is not None
    assert [(child.question, child.superseded) for child in paid.tree.children] == [
        ("about one", True),
        ("about two", False),
    ]
    assert engine("FINAL(never)").resume("last").answer == "ctx two"
    assert engine("FINAL(never)").replay("last").answer == "ctx two"


def test_run_of_older_interface_at_depth_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_STORE", str(tmp_path / "runs.db"))
    model = ScriptedModel(cells("FINAL(llm_query('x'))"))
    repl = RLM_REPL(model, model, depth=1, max_depth=2)  # type: ignore[arg-type]
    answer = repl.completion("context", "q")
    assert repl.last_result is not None
    assert repl.engine.replay(repl.last_result.run_id).answer == answer
    assert repl.engine.resume(repl.last_result.run_id).answer == answer


MOVES = """
import os, sys, rlm
from rlm.testing.scripted import ScriptedModel
engine = rlm.RLM(ScriptedModel(["FINAL(1)", "FINAL(2)"]), store="runs.db")
if sys.argv[1] == "before":
    engine.run("q", "context")
os.chdir("in")
engine.run("q", "context")
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("when", ["before", "never"])
def test_a_program_that_moves_keeps_its_store(tmp_path: Path, when: str) -> None:
    (tmp_path / "in").mkdir()
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", MOVES, when], cwd=tmp_path, env=env, check=False)
    assert list((tmp_path / "in").iterdir()) == []
    runs = rlm.RLM(ScriptedModel([]), store=tmp_path / "runs.db")._parts.records.need_store().runs()
    assert [info.status for info in runs] == ["complete"] * (2 if when == "before" else 1)


def test_a_store_is_one_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    asked = threading.Event()

    async def hang() -> str:
        asked.set()
        await asyncio.sleep(60)
        return ""

    first = rlm.RLM(ScriptedModel(cells("llm_query('x')", leaf=lambda _: hang())), store=tmp_path / "runs.db")
    handle = first.start("q", "context")
    assert asked.wait(30)
    for name in ("runs.db", "link/runs.db"):
        with pytest.raises(StoreError, match="being executed"):
            rlm.RLM(ScriptedModel([]), store=name).resume(handle.run_id)
    handle.cancel()


def test_thread_left_behind_is_not_a_divergence(tmp_path: Path) -> None:
    code = """
import threading, time
out = []
thread = threading.Thread(target=lambda: out.append(llm_query('slow')), daemon=True)
thread.start()
time.sleep(0.1)
"""

    async def late() -> str:
        await asyncio.sleep(20)
        return "late"

    engine = rlm.RLM(ScriptedModel(cells(code, "FINAL(out)", leaf=lambda _: late())), store=tmp_path / "runs.db")
    assert engine.run("q", "context").answer == []
    for _ in range(3):
        assert engine.replay("last").answer == []


def test_divergence_of_failed_cell_is_paid(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("one")
    code = f"if open({str(outside)!r}).read() == 'one':\n    raise ValueError\nb = llm_query('b')"

    def engine() -> rlm.RLM:
        model = ScriptedModel(cells(code, "FINAL(globals().get('b', 'none'))"))
        return rlm.RLM(model, store=tmp_path / "runs.db", sandbox="unconfined")

    assert engine().run("q", "context").answer == "none"
    outside.write_text("two")
    assert engine().resume("last", on_divergence="pay").answer == "<b>"


def test_run_stopped_during_a_turn_answers(tmp_path: Path) -> None:
    asked = threading.Event()

    async def second(request: Request) -> str:
        if "Answer now" in request.messages[-1].text:
            return "FINAL(what there is)"
        asked.set()
        await asyncio.sleep(60)
        return ""

    def script(request: Request) -> Answer:
        return block("print(1)") if turn_of(request) == 1 else second(request)

    run = rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db")
    handle = run.start("q", "context")
    assert asked.wait(30)
    handle.finish()
    assert handle.result().answer == "what there is"
    assert run.replay("last").answer == "what there is"


def test_a_bytearray_is_bytes(tmp_path: Path) -> None:
    run = rlm.RLM(ScriptedModel(cells("print(type(context))\nFINAL(len(context))")), store=tmp_path / "runs.db")
    assert run.run("q", bytearray(b"abc")).answer == 3
    assert run.replay("last").answer == 3


def test_seconds_count_from_the_resume(tmp_path: Path) -> None:
    handle = rlm.RLM(ScriptedModel(cells("import time\ntime.sleep(60)")), store=tmp_path / "runs.db").start(
        "q", "context"
    )
    with pytest.raises(TimeoutError):
        handle.result(1.0)
    handle.cancel()
    with pytest.raises(rlm.RunCancelledError):
        handle.result()
    again = rlm.RLM(ScriptedModel(cells("FINAL(1)")), store=tmp_path / "runs.db")
    used = again.resume("last", budget=rlm.Budget(seconds=30), on_divergence="pay").used["seconds"]
    assert used.allowed is not None
    assert used.left is not None
    assert 31 < used.allowed < 35
    assert used.left == pytest.approx(used.allowed - used.used)


def test_stopped_run_without_answer_resumes(tmp_path: Path) -> None:
    asked = threading.Event()

    async def hang() -> str:
        asked.set()
        await asyncio.sleep(60)
        return ""

    def stubborn(request: Request) -> Answer:
        return hang() if request.role == "leaf" else block("x = llm_query('a')\nprint(x)")

    handle = rlm.RLM(ScriptedModel(stubborn), store=tmp_path / "runs.db").start("q", "context")
    assert asked.wait(30)
    handle.finish()
    with pytest.raises(NoAnswerError, match="asked to finish") as caught:
        handle.result()
    assert caught.value.result is not None
    assert (caught.value.limit, caught.value.result.limit) == ("stopped", "stopped")
    again = rlm.RLM(ScriptedModel(cells("x = llm_query('a')", "FINAL(llm_query('b'))")), store=tmp_path / "runs.db")
    assert again.resume("last").answer == "<b>"


def test_refused_calls_are_counted_exactly(tmp_path: Path) -> None:
    def script(request: Request) -> Answer:
        if "Answer now" in request.messages[-1].text:
            return "FINAL(partly)"
        return cells("x = llm_query_batch([str(i) for i in range(20)])")(request)

    engine = rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", budget=rlm.Budget(calls=10))
    assert engine.run("q", "context").unfinished.refused_calls == 12


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda engine: engine.run(3, "x"), "must be text or None; got int"),
        (lambda _: rlm.RLM(ScriptedModel([]), budget=5), "must be a Budget"),  # type: ignore[arg-type]
        (lambda engine: engine.resume("last", budget=5), "must be a Budget"),
        (lambda engine: engine.resume("last", on_divergence="maybe"), "must be one of stop, pay"),
        (lambda _: rlm.report_html("last"), "takes a Result"),  # type: ignore[arg-type]
    ],
)
def test_wrong_use_is_told(tmp_path: Path, wrong: Callable[[rlm.RLM], object], told: str) -> None:
    engine = rlm.RLM(ScriptedModel(["FINAL(1)"]), store=tmp_path / "runs.db")
    engine.run("q", "context")
    with pytest.raises(ConfigurationError, match=told):
        wrong(engine)
