"""Superseded work in the tree of a resumed run: it is marked, and everything else is there once."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from folds_kit import check_folds
from scripts_kit import block

import rlm
from rlm.cli.main import main
from rlm.core.errors import ModelError, OutOfCreditError
from rlm.core.messages import Request
from rlm.core.tree import NodeRecord
from rlm.prompts import answer_now
from rlm.testing.scripted import ScriptedModel


def reopened(store: Path) -> rlm.Result:
    """A run whose second turn a limit made the last, with a child below the first, resumed with more turns."""

    def script(request: Request) -> str:
        last = request.messages[-1].text
        if request.role == "leaf":
            return f"<{last}>"
        if request.depth:
            return block("FINAL(llm_query('below', recursive=False))")
        if last.endswith(answer_now("iterations")):
            return block("print('at once')") + "\nFINAL(partly)"
        if any(message.role == "assistant" for message in request.messages):
            return block("FINAL([a, llm_query('late', recursive=False)])")
        return block("a = rlm_query('child')\nllm_query('early', recursive=False)")

    with rlm.RLM(ScriptedModel(script), store=store, max_depth=2) as engine:
        with rlm.RLM(ScriptedModel(script), store=store, max_depth=2, max_iterations=1) as first:
            assert first.run("q", "context").answer == "partly"
        return engine.resume("last", budget=rlm.Budget(iterations=9))


def outline(node: NodeRecord) -> list[str]:
    """The turns of a node with their calls, and its cells."""
    turns = [f"{turn.id}{'!' * turn.superseded} {[call.id for call in calls]}" for turn, calls in node.calls_by_turn()]
    return [*turns, *(cell.name for cell, _ in node.cells)]


def test_limit_turn_is_superseded_by_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = reopened(tmp_path / "runs.db")
    assert result.answer == ["<below>", "<late>"]
    assert result.tree is not None
    assert outline(result.tree) == ["0@1 ['0/1.1.2']", "0@2! []", "0@2 ['0/2.1.1']", "1.1", "2.1"]
    assert [node.id for node in result.tree.walk()] == ["0", "0/1.1.1"]
    assert not any(node.superseded for node in result.tree.walk())

    main(["show", "last", "--store", str(tmp_path / "runs.db")])
    shown = capsys.readouterr().out
    assert [shown.count(f"cell {name}:") for name in ("1.1", "2.1")] == [2, 1]  # the child has a cell 1.1 too
    assert shown.count("call 0/2.1.1:") == 1
    assert shown.count("superseded") == 1
    assert "at once" not in shown


def test_lost_call_asked_again_counts_once(tmp_path: Path) -> None:
    broke = True

    def script(request: Request) -> str | ModelError:
        last = request.messages[-1].text
        if broke and last == "later":
            return OutOfCreditError("no credit left")
        return f"<{last}>" if request.role == "leaf" else block("FINAL([llm_query('early'), llm_query('later')])")

    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db") as engine:
        with pytest.raises(OutOfCreditError):
            engine.run("q", "context")
        broke = False
        result = engine.resume("last")
    assert result.tree is not None
    assert outline(result.tree) == ["0@1 ['0/1.1.1', '0/1.1.2', '0/1.1.2']", "1.1"]
    assert [call.superseded for call in result.tree.leaves] == [False, True, False]
    assert not result.unfinished


def test_calls_omitted_by_paid_divergence_are_superseded(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("two")
    code = f"a = [rlm_query(str(i)) for i in range(2 if 'two' in open({str(outside)!r}).read() else 1)]\nprint(a)"

    def script(request: Request) -> str:
        if request.role == "leaf":
            return "leaf"
        if request.depth:
            return block("FINAL(1)")
        turn = sum(message.role == "assistant" for message in request.messages)
        return block([code, "print(llm_query('then', recursive=False))", "FINAL(a)"][turn])

    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", max_depth=2, sandbox="unconfined") as engine:
        assert engine.run("q", "context").answer == ["1", "1"]
        outside.write_text("one")
        result = engine.resume("last", on_divergence="pay")
    assert result.answer == ["1"]
    tree = result.tree
    assert tree is not None
    assert outline(tree) == ["0@1 []", "0@2! []", "0@3! []", "0@2 ['0/2.1.1']", "0@3 []", "1.1", "2.1", "3.1"]
    assert [(node.id, node.superseded) for node in tree.children] == [("0/1.1.1", False), ("0/1.1.2", True)]
    assert all(call.superseded for call in tree.children[1].calls)
    check_folds(engine._parts.records.need_store().events(result.run_id))


def test_page_draws_each_cell_and_call_once(tmp_path: Path) -> None:
    page = rlm.report_html(reopened(tmp_path / "runs.db"))
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    names = [call["id"] for call in data["calls"]]
    assert [(call["id"], call["superseded"]) for call in data["calls"] if call["of"] is None] == [
        ("0@1", False),
        ("0@2", True),
        ("0@2", False),
        ("0/1.1.1@1", False),
    ]
    assert {call["id"]: names[call["of"]] for call in data["calls"] if call["of"] is not None} == {
        "0/1.1.2": "0@1",
        "0/2.1.1": "0@2",
        "0/1.1.1/1.1.1": "0/1.1.1@1",
    }
