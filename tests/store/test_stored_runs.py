"""Stored runs read from Python, without an ``RLM`` object."""

from __future__ import annotations

from pathlib import Path

import pytest

import rlm
from rlm.events import RunFinished, RunStarted
from rlm.testing.scripted import ScriptedModel


def run_one(place: Path) -> rlm.Result:
    replies = ["```repl\nprint(llm_query('leaf'))\n```", "leaf reply", "```repl\nFINAL((1, 2))\n```"]
    with rlm.RLM(ScriptedModel(replies), store=place, prefetch=False) as engine:
        return engine.run("the question", "context")


def test_result_is_the_one_that_the_run_gave(tmp_path: Path) -> None:
    result = run_one(tmp_path / "runs.db")
    with rlm.open_store(tmp_path / "runs.db") as store:
        (info,) = store.runs()
        again = store.result(info.id)
        assert (info.id, info.status, info.question) == (result.run_id, "complete", "the question")
    assert (again.answer, again.status, again.usage) == (result.answer, result.status, result.usage)
    assert again.tree == result.tree
    assert (again.sandbox, again.cost_usd, again.unfinished) == (result.sandbox, result.cost_usd, result.unfinished)


def test_events_are_numbered_from_one(tmp_path: Path) -> None:
    run_one(tmp_path / "runs.db")
    events = rlm.open_store(tmp_path / "runs.db").events("last")
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]


def test_deleted_run_is_gone(tmp_path: Path) -> None:
    result = run_one(tmp_path / "runs.db")
    store = rlm.open_store(tmp_path / "runs.db")
    with pytest.raises(rlm.UnknownRunError):
        store.delete(result.run_id, "nothing")
    assert len(store.runs()) == 1
    store.delete(result.run_id[:-2])
    assert store.runs() == []
    with pytest.raises(rlm.UnknownRunError):
        store.events(result.run_id)


def test_open_run_has_no_result(tmp_path: Path) -> None:
    with (
        rlm.RLM(ScriptedModel([rlm.AuthenticationError("no key")]), store=tmp_path / "runs.db") as engine,
        pytest.raises(rlm.AuthenticationError),
    ):
        engine.run("q", "context")
    assert rlm.open_store(tmp_path / "runs.db").result().status == "failed"


def test_resumed_process_continues_numbers(tmp_path: Path) -> None:
    place = tmp_path / "runs.db"
    replies: list[str | rlm.Reply | rlm.ModelError] = ["```repl\nprint('one')\n```", rlm.AuthenticationError("no key")]
    with rlm.RLM(ScriptedModel(replies), store=place) as engine, pytest.raises(rlm.AuthenticationError):
        engine.run("q", "context")
    with rlm.RLM(ScriptedModel(["```repl\nFINAL(2)\n```"]), store=place) as engine:
        assert engine.resume("last").answer == 2
    events = rlm.open_store(place).events()
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    assert [type(event).__name__ for event in events].count("RunResumed") == 1


def test_missing_store_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_STORE", "none")
    with pytest.raises(rlm.StoreError, match="no store is in use"):
        rlm.open_store()
