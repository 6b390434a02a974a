"""Sub-calls that are refused: they cost the cell's own time, little memory, and are recorded together."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripts_kit import cells

import rlm
from rlm.core.cells import CellResult
from rlm.core.events import AnyEvent, CellExecuted, SubcallEnded
from rlm.engine.driver.queries import MAX_FAILURE_CHARS
from rlm.engine.driver.subcalls import MAX_BUDGET_QUERIES, MAX_REFUSALS
from rlm.testing.scripted import ScriptedModel

CELL_S = 1.0
LOOPS = {
    "an unknown model": "while True: llm_query_batch(['x'] * 500, model='y' * 9000)",
    "another unknown model each time": "n = 0\nwhile True:\n    n += 1\n    llm_query_batch(['x'], model=f'm{n}')",
    "no budget left": "llm_query_batch(['x'] * 9)\nwhile True: llm_query_batch(['x'] * 500)",
    "prompts beyond the window": "while True: llm_query_batch(['x' * 300_000] * 8)",
    "asynchronous calls": "while True: await llm_query_batch_async(['x'] * 500, model='y')",
    "the budget": "while True: str(budget())[:0]",
    "the budget, in spite of its error": "while True:\n    try: budget()\n    except Exception: pass",
}


def record(tmp_path: Path, code: str, cell_s: float = 60.0, **options: object) -> tuple[rlm.RLM, list[AnyEvent]]:
    """An engine whose run has executed one cell, and its events."""
    model = ScriptedModel(cells(code, "FINAL('end')"), window_tokens=20_000)
    engine = rlm.RLM(model, store=tmp_path / "runs.db", sandbox="unconfined", cell_seconds=cell_s, **options)  # type: ignore[arg-type]
    assert engine.run("q", "context").answer == "end"
    store = engine._parts.records.need_store()
    return engine, list(store.events(store.find("last").id))


def result_of(events: list[AnyEvent]) -> CellResult:
    return next(event.result for event in events if isinstance(event, CellExecuted))


@pytest.mark.parametrize("name", LOOPS)
def test_refused_calls_cost_the_time_of_the_cell(tmp_path: Path, name: str) -> None:
    options = {"budget": rlm.Budget(calls=9)} if name == "no budget left" else {}
    _, events = record(tmp_path, LOOPS[name], 60 if name == "the budget" else CELL_S, **options)
    result = result_of(events)
    refused = [event for event in events if isinstance(event, SubcallEnded)]
    if name == "the budget":
        assert result.end == "error", result.shown
        assert "Store its value in a variable" in result.shown
    else:
        assert result.end == "timeout", result.shown
        assert result.elapsed_s < 10 * CELL_S
        assert result.waited_s < CELL_S
    assert len(refused) <= MAX_REFUSALS + MAX_BUDGET_QUERIES + 1
    assert all(event.failure is None or len(event.failure.message) < 2 * MAX_FAILURE_CHARS for event in refused)


COUNTS = """
failures = []
for number in range(1000):
    try:
        llm_query(f'p{number}', model='unknown')
    except LLMQueryError as error:
        failures.append(str(error))
print(len(failures), failures[-1])
"""


def test_shared_refusals_replay_and_resume(tmp_path: Path) -> None:
    engine, events = record(tmp_path, COUNTS)
    refused = [event for event in events if isinstance(event, SubcallEnded)]
    assert len(refused) == MAX_REFUSALS + 1
    assert sum(event.times for event in refused) == 1000
    assert result_of(events).stdout.startswith("1000 model='unknown' is not one of")
    assert engine.replay("last").answer == "end"
    assert engine.resume("last").answer == "end"


def test_batch_beyond_the_limit_still_returns(tmp_path: Path) -> None:
    """Paid answers are not lost because many other calls of the batch were refused."""
    code = "replies = llm_query_batch(['x'] * 3000)\nprint(sum(isinstance(reply, FailedCall) for reply in replies))"
    _, events = record(tmp_path, code, budget=rlm.Budget(calls=12))
    result = result_of(events)
    assert result.end == "ok", result.shown
    assert 2985 <= int(result.stdout) < 3000
