"""A store that version 0.1.0 wrote before the events became lean (schema 2): listed, read, resumed and replayed.

``data/schema-2.db.gz`` has four runs of one scripted model: complete (batch and children), partial, failed, and killed.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

import rlm
from rlm.core.errors import DivergenceError
from rlm.core.messages import Request
from rlm.events import CallReplied, CallStarted, RunFinished
from rlm.testing.scripted import ScriptedModel

DATA = Path(__file__).parent / "data" / "schema-2.db.gz"
COMPLETE, PARTIAL, FAILED, KILLED = (
    f"20261130-122907-{name}" for name in ("42b232", "f9cef5", "55af38", "2a2332")
)  # fmt: skip
EVENTS = {COMPLETE: 88, PARTIAL: 22, FAILED: 12, KILLED: 10}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "runs.db"
    path.write_bytes(gzip.decompress(DATA.read_bytes()))
    return path


def script(*codes: str) -> Callable[[Request], str]:
    def answer(request: Request) -> str:
        if request.role == "leaf":
            return f"<{request.messages[-1].text[:40]}>"
        turn = sum(message.role == "assistant" for message in request.messages)
        return f"```repl\n{codes[min(turn, len(codes) - 1)]}\n```"

    return answer


def engine(place: Path, *codes: str, max_depth: int = 1) -> tuple[rlm.RLM, ScriptedModel]:
    model = ScriptedModel(script(*codes), name="scripted:old")
    prompt = lambda _: "Answer the question. Write ```repl blocks."  # noqa: E731
    return rlm.RLM(model, store=place, prompt=prompt, max_depth=max_depth, prefetch=False), model


def test_runs_and_events_are_read(place: Path) -> None:
    store = rlm.open_store(place)
    assert [(info.id, info.status, info.is_running) for info in store.runs()] == [
        (KILLED, None, False),
        (FAILED, "failed", False),
        (PARTIAL, "partial", False),
        (COMPLETE, "complete", False),
    ]
    for run, count in EVENTS.items():
        events = store.events(run)
        assert [event.seq for event in events] == [*range(1, count + 1)]
        started = {event.call: event for event in events if isinstance(event, CallStarted)}
        for event in events:
            if isinstance(event, CallReplied):
                assert event.elapsed_s == pytest.approx(event.at_s - started[event.call].at_s)


def test_result_of_a_tree_is_read(place: Path) -> None:
    result = rlm.open_store(place).result(COMPLETE)
    assert result.answer == ["<leaf of item 0>", "<leaf of first part>", "<leaf of second par>"]
    assert result.tree is not None
    children = [*(f"0/1.1.{number}" for number in range(1, 7)), "0/2.1.1", "0/2.1.2"]
    assert [node.id for node in result.tree.walk()] == ["0", *children]
    usage = result.usage.total.usage
    assert (usage.calls, usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (19, 1425, 384, 192)
    assert {depth: spend.usage.calls for depth, spend in result.usage.by_depth.items()} == {0: 3, 1: 8, 2: 8}
    assert [len(node.cells) for node in result.tree.walk()] == [3, *[1] * 8]
    assert "x" * 1500 in result.tree.cells[0][1].stdout
    failed = rlm.open_store(place).events(FAILED)[-1]
    assert isinstance(failed, RunFinished)
    assert failed.error == "AuthenticationError: the key was refused"


def strictly(repeat: Callable[[], rlm.Result]) -> rlm.Result | None:
    """None if the engine would now put something else to the model: that is the prompt's change, not the store's."""
    try:
        return repeat()
    except DivergenceError as error:
        assert error.difference.startswith("message "), error.difference  # noqa: PT017
        return None


def test_complete_run_is_replayed_without_a_model(place: Path) -> None:
    replaying, model = engine(place, max_depth=2)
    result = strictly(lambda: replaying.replay(COMPLETE))
    assert result is None or result.answer == ["<leaf of item 0>", "<leaf of first part>", "<leaf of second par>"]
    assert model.requests == []


def test_killed_run_is_resumed_and_continues(place: Path) -> None:
    resuming, model = engine(place, "print(llm_query('one'))", "print(llm_query('two'))", "FINAL('after the kill')")
    result = strictly(lambda: resuming.resume(KILLED))
    if result is None:
        result = resuming.resume(KILLED, on_divergence="pay")
    else:
        assert [request.messages[-1].text for request in model.requests if request.role == "leaf"] == ["two"]
    assert result.answer == "after the kill"
    stored = rlm.open_store(place)
    assert stored.result(KILLED).answer == "after the kill"
    assert [event.seq for event in stored.events(KILLED)] == [*range(1, len(stored.events(KILLED)) + 1)]


def test_partial_run_goes_on_with_more_turns(place: Path) -> None:
    resuming, _ = engine(place, "x", "x", "FINAL('whole')")
    result = resuming.resume(PARTIAL, budget=rlm.Budget(iterations=9), on_divergence="pay")
    assert (result.status, result.answer) == ("complete", "whole")


def test_earlier_run_is_deleted(place: Path) -> None:
    store = rlm.open_store(place)
    store.delete(COMPLETE)
    assert len(store.runs()) == 3
