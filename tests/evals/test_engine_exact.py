"""The engine without a model: the reference root and a perfect leaf score exactly 1.00.

Everything between them is real: the engine, its depth rule, batches, child nodes, and a sandboxed process for every node.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from eval_kit import every_task
from rlm_evals.arms import Terms, open_arm, parse_arm
from rlm_evals.harness import Plan, run_comparison
from rlm_evals.item import Item
from rlm_evals.results import Line, ResultsFile


def run_reference(items: list[Item], depths: tuple[int, ...], folder: Path) -> list[Line]:
    arms = {f"reference:{depth}": open_arm(parse_arm(f"reference:{depth}"), Terms()) for depth in depths}
    with ResultsFile(folder / "results.jsonl", {}) as results:
        tally = run_comparison(Plan(items, arms), results)
        assert tally.failed == 0
        return results.lines


def check_exact(lines: list[Line], count: int) -> None:
    assert [(line.arm, line.item, line.answer, line.gold) for line in lines if line.score != 1.0] == []
    assert len(lines) == count
    assert {line.status for line in lines} == {"complete"}
    judged = [line for line in lines if line.labelled_rows]
    assert judged
    assert all(line.labels_right == line.labels_judged == line.labelled_rows for line in judged)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_task_at_32k_scores_exactly_one(depth: int, tmp_path: Path) -> None:
    """All forms at depths 1 and 2, and every third at depth 3; all with RLM_EVALS=full."""
    items = list(every_task(32_768))
    if depth > 2 and os.environ.get("RLM_EVALS") != "full":
        items = items[::3]
    check_exact(run_reference(items, (depth,), tmp_path), len(items))


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tasks_at_131k_score_exactly_one(depth: int, tmp_path: Path) -> None:
    """All forms at depth 1, and every fifth at other depths; all with RLM_EVALS=full (a few minutes)."""
    items = list(every_task(131_072, seed=1))
    if depth > 1 and os.environ.get("RLM_EVALS") != "full":
        items = items[::5]
    check_exact(run_reference(items, (depth,), tmp_path), len(items))


def test_deeper_trees_make_more_calls(tmp_path: Path) -> None:
    """Confirms that the depths above test different trees."""
    items = [item for item in every_task(8192) if item.task.startswith(("records", "pairs/mixed/01"))][:2]
    lines = run_reference(items, (1, 2, 3), tmp_path)
    calls = {line.arm: line.calls for line in lines}
    assert calls["reference:1"] < calls["reference:2"] < calls["reference:3"]
    assert {line.score for line in lines} == {1.0}
