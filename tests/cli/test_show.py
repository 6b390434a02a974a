"""``rlm show``: nothing that went wrong is left out, and nothing that a model wrote hides anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import rlm
from rlm.cli.main import main
from rlm.core.errors import ModelError, RequestRejectedError
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel

Show = Callable[..., str]


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Show:
    """Runs a root that writes these cells in turn, and shows the run."""

    def run(*codes: str, full: bool = False, **options: object) -> str:
        def script(request: Request) -> str | ModelError:
            told = request.messages[-1].text
            if request.role == "leaf":
                return RequestRejectedError("refused") if told == "part 15" else "no json"
            turn = sum(message.role == "assistant" for message in request.messages)
            return f"```repl\n{codes[min(turn, len(codes) - 1)]}\n```"

        store = tmp_path / "runs.db"
        with rlm.RLM(ScriptedModel(script), store=store, **options) as engine:  # type: ignore[arg-type]
            engine.run("q", "context")
        main(["show", *(["--full"] if full else []), "--store", str(store)])
        return capsys.readouterr().out

    return run


BATCH = "x = llm_query_batch([f'part {i}' for i in range(20)])"


def test_failed_call_is_always_shown(show: Show) -> None:
    shown = show(BATCH, "FINAL(1)")
    assert "call 0/1.1.16: RequestRejectedError: refused: part 15" in shown
    assert "... 7 more calls (--full)" in shown
    assert shown.count("call 0/") == 13


def test_all_of_it_is_calls_and_texts_whole(show: Show) -> None:
    shown = show(BATCH, "FINAL('long ' * 100 + 'end')", full=True)
    assert shown.count("call 0/1.1.") == 20
    assert shown.count("| no json") == 19
    assert "< part 19\n" in shown
    assert re.search(r"answer: (long ){100}end\n", shown)


def test_why_a_cell_ended_is_told(show: Show) -> None:
    shown = show(
        "import sys\nprint('to stderr', file=sys.stderr)",
        "sys.exit('enough')",
        "import os\nos._exit(3)",
        "FINAL(1)",
    )
    for told in ("to stderr", "SystemExit: enough", "the process exited with status 3", "variables of earlier cells"):
        assert told in shown


def test_sub_calls_that_gave_nothing_are_told(show: Show) -> None:
    shown = show(
        "x = llm_query_batch(['a', 'b', 'c'], schema={'type': 'object'})", "FINAL(1)", budget=rlm.Budget(calls=4)
    )
    assert shown.count("ReplyDoesNotFitError") == 1  # its correction was paid from the same reservation
    assert "2 sub-calls refused: BudgetExceeded" in shown


def test_no_output_hides_what_comes_after_it(show: Show) -> None:
    shown = show("print('\\x1b]0;')", "raise ValueError('seen')", "print('\\x07')\nFINAL(1)")
    assert "ValueError: seen" in shown
    assert "\x1b" not in shown
    assert "turn 3" in shown


def test_type_of_answer_and_misfits_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "runs.db"
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "description": "\x1b[2Jhidden"}},
        "required": ["name"],
    }
    root = ScriptedModel(['FINAL({"name": "\\u001b[2J", "n": 1, "name": 3})', 'FINAL({"name": "Ann"})'])
    with rlm.RLM(root, store=store) as engine:
        engine.run("q", "context", schema=schema)
    main(["show", "--store", str(store)])
    shown = capsys.readouterr().out
    assert "answer type:\n  {\n    name: string  // " in shown
    assert "turn 1 did not fit: name must be a string; got 3\n" in shown
    assert "answer: {'name': 'Ann'}" in shown
    assert "\x1b" not in shown
