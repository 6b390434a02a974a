"""Runs of a scripted root whose cells call tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rlm
from rlm.core.cells import CellResult
from rlm.testing.scripted import ScriptedModel


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


def engine_of(*codes: str, tools: Any = (), answer: str = "FINAL(done)", **options: Any) -> rlm.RLM:
    """An engine whose root executes ``codes``, one a turn, and then answers."""
    replies = [cell(code) for code in codes]
    given = {"store": None, "sandbox": "unconfined", "model": ScriptedModel([*replies, answer]), **options}
    return rlm.RLM(tools=tools, **given)


def run(*codes: str, tools: Any = (), **options: Any) -> rlm.Result:
    with engine_of(*codes, tools=tools, **options) as engine:
        return engine.run("question", "the context")


def outputs(result: rlm.Result) -> list[CellResult]:
    assert result.tree is not None
    return [cell_result for _, cell_result in result.tree.cells]


def output(*codes: str, tools: Any = (), **options: Any) -> str:
    """The output of the last cell, or its error."""
    last = outputs(run(*codes, tools=tools, **options))[-1]
    return last.error or last.stdout.rstrip("\n")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
