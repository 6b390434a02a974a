"""Rules that every implementation of ``rlm.ports.Store`` follows. A new store is added to ``STORES``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlm.core.cells import Cell
from rlm.core.errors import ConfigurationError, IncompleteRecordError, StoreError, UnknownRunError
from rlm.core.events import AnyEvent, CellStarted, RunFinished, RunStarted
from rlm.core.ids import ROOT, RunId
from rlm.core.messages import JsonValue
from rlm.core.runs import ContextInfo
from rlm.ports import Journal, Store
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.digests import digest_context
from rlm.store.memory import MemoryStore
from rlm.store.store import SqliteStore

STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: MemoryStore(dump, load),
    "sqlite": lambda folder: SqliteStore(folder / "runs.db", dump, load),
}
FIRST, SECOND = RunId("run-a1"), RunId("run-b1")
TEXT = "The whale. " * 300


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened = STORES[request.param](tmp_path)
    yield opened
    opened.close()


def context(text: str = "abc") -> ContextInfo:
    return ContextInfo("s", len(text), digest_context(text)[1], None, text.encode())


def events_of(run: RunId) -> list[AnyEvent]:
    return [
        RunStarted(run=run, node=ROOT, at_s=0.0, seq=1, question=TEXT, context="c", models=("m",), max_depth=1, sandbox="s"),
        CellStarted(run=run, node=ROOT, at_s=0.5, seq=2, cell=Cell(1, 1, TEXT, 1.5)),
        RunFinished(run=run, node=ROOT, at_s=1.0, seq=3, status="complete", answer={"a": (1, {2})}),
    ]  # fmt: skip


def write(journal: Journal, events: Sequence[AnyEvent]) -> None:
    for event in events:
        journal.append(event)
    journal.flush()
    journal.end()


def begin(store: Store, run: RunId = FIRST, secrets: Sequence[str] = (), *, keep_texts: bool = True) -> Journal:
    options: dict[str, JsonValue] = {"models": ["m"], "max_depth": 1, "setup_code": "x = 1"}
    return store.begin_run(run, "a question", options, context(), keep_texts=keep_texts, secrets=secrets)


def test_events_and_facts_of_a_run_come_back(store: Store) -> None:
    write(begin(store), events_of(FIRST))
    assert store.events(FIRST) == events_of(FIRST)
    info = store.find("last")
    assert (info.id, info.status, info.question, info.is_running) == (FIRST, "complete", "a question", False)
    assert info.options == {"models": ["m"], "max_depth": 1, "setup_code": "x = 1"}
    assert info.touched >= info.started > 0
    assert store.context(info) == "abc"
    assert store.size() > 0


def test_flushed_events_are_visible_before_the_end(store: Store) -> None:
    journal = begin(store)
    journal.append(events_of(FIRST)[0])
    journal.flush()
    assert store.events(FIRST) == events_of(FIRST)[:1]
    assert (store.find("last").status, store.find("last").is_running) == (None, True)
    journal.end()
    assert store.find("last").status is None


def test_resumed_run_continues(store: Store) -> None:
    write(begin(store), events_of(FIRST)[:1])
    journal = store.resume_run(FIRST, {"max_depth": 2})
    assert store.find(FIRST).is_running
    write(journal, events_of(FIRST)[1:])
    assert store.events(FIRST) == events_of(FIRST)
    assert store.find(FIRST).options["max_depth"] == 2
    assert store.find(FIRST).options["models"] == ["m"]
    assert store.find(FIRST).status == "complete"


def test_running_run_is_not_resumed(store: Store) -> None:
    journal = begin(store)
    with pytest.raises(StoreError, match="being executed"):
        store.resume_run(FIRST)
    journal.end()
    store.resume_run(FIRST).end()


def test_stale_revision_is_not_resumed(store: Store) -> None:
    write(begin(store), events_of(FIRST)[:1])
    before = store.revision(FIRST)
    write(store.resume_run(FIRST, revision=before), events_of(FIRST)[1:2])
    assert store.revision(FIRST) > before
    with pytest.raises(StoreError, match="resumed elsewhere"):
        store.resume_run(FIRST, revision=before)


def test_run_named_by_no_text_is_refused(store: Store) -> None:
    """Names that no store has are refused alike, whatever they are."""
    write(begin(store), events_of(FIRST))
    with pytest.raises(ConfigurationError, match="its id as text"):
        store.find(7)  # type: ignore[arg-type]
    for name in ("", "\ud800", "run-a1%", "Run-a1"):
        with pytest.raises(UnknownRunError, match="has no run"):
            store.find(name)


def test_runs_are_listed_and_found_by_prefix(store: Store) -> None:
    write(begin(store, FIRST), events_of(FIRST))
    write(begin(store, SECOND), events_of(SECOND))
    assert [info.id for info in store.runs()] == [SECOND, FIRST]
    assert store.find("last").id == SECOND
    assert store.find("run-a").id == FIRST
    with pytest.raises(UnknownRunError, match="several runs start with run-"):
        store.find("run-")


@pytest.mark.parametrize("name", ["", "nothing", "last"])
def test_unknown_runs_raise(store: Store, name: str) -> None:
    with pytest.raises(UnknownRunError):
        store.find(name)
    with pytest.raises(UnknownRunError):
        store.events(RunId(name))
    with pytest.raises(UnknownRunError):
        store.resume_run(RunId(name))
    assert store.revision(RunId(name)) == 0


def test_deleted_runs_are_gone(store: Store) -> None:
    write(begin(store, FIRST), events_of(FIRST))
    write(begin(store, SECOND), events_of(SECOND))
    store.delete([FIRST, RunId("nothing")])
    assert [info.id for info in store.runs()] == [SECOND]
    with pytest.raises(UnknownRunError):
        store.events(FIRST)


def test_run_without_texts_has_marks_and_no_context(store: Store) -> None:
    write(begin(store, keep_texts=False), events_of(FIRST))
    info = store.find("last")
    assert (info.question, info.texts_kept, info.options) == ("", False, {"models": ["m"], "max_depth": 1})
    with pytest.raises(IncompleteRecordError):
        store.events(FIRST)
    (started, _, _) = store.events(FIRST, lenient=True)
    assert isinstance(started, RunStarted)
    assert started.question.startswith("[not stored")
    with pytest.raises(IncompleteRecordError):
        store.context(info)


def test_secrets_are_not_written(store: Store) -> None:
    key = "sk-123456789"
    started = RunStarted(
        run=FIRST, node=ROOT, at_s=0.0, seq=1, question=key, context="", models=(), max_depth=0, sandbox=""
    )
    write(store.begin_run(FIRST, f"of {key}", {"base_url": key}, context(f"x {key}"), secrets=[key]), [started])
    info = store.find("last")
    assert key not in f"{info} {store.events(FIRST)}"
    with pytest.raises(IncompleteRecordError, match="holds a secret"):
        store.context(info)


def test_digest_of_a_large_context_is_added_later(store: Store) -> None:
    journal = store.begin_run(FIRST, "q", {}, ContextInfo("", 5, ""))
    store.note_context(FIRST, ContextInfo("", 7, "digest"))
    store.note_context(RunId("nothing"), ContextInfo("", 7, "digest"))
    journal.end()
    assert (store.find("last").context.size, store.find("last").context.digest) == (7, "digest")


def test_answers_are_cached(store: Store) -> None:
    assert store.cached_answer(b"key") is None
    store.cache_answer(b"key", "answer")
    store.cache_answer(b"key", "newer")
    assert store.cached_answer(b"key") == "newer"


def test_many_threads_write_their_own_runs(store: Store) -> None:
    runs = [RunId(f"r{number:02}") for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda run: write(begin(store, run), events_of(run)), runs))
    assert sorted(info.id for info in store.runs()) == runs
    assert all(store.events(run) == events_of(run) for run in runs)
