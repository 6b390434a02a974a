"""The store by itself: what it keeps comes back, torn files open to an earlier state, and what cannot be is said clearly."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlm.core.cells import Answer, Cell, CellResult, Variable
from rlm.core.errors import IncompleteRecordError, StoreError, UnknownRunError
from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallReplied,
    CallSent,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunReopened,
    RunStarted,
    SubcallEnded,
    Superseded,
)
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.core.runs import ContextInfo
from rlm.core.subcalls import SubcallFailure
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.digests import digest_context
from rlm.store.location import default_location
from rlm.store.migrations import VERSION
from rlm.store.processes import is_alive, this_process
from rlm.store.store import SqliteStore

RUN, ROOT = RunId("r1"), NodeId("0")
SMALL = ContextInfo("s", 3, digest_context("abc")[1], None, b"abc")
LONG = "long text é \ud800 " * 200


def story() -> list[AnyEvent]:
    """One event of nearly every kind, with everything in it that is hard to keep."""
    talk = (Message("system", "be good"), Message("user", LONG))
    more = (*talk, Message("assistant", "```repl\nx\n```"), Message("user", "[no output]"))
    common: Any = {"run": RUN, "node": ROOT, "at_s": 0.25}
    cell = Cell(1, 1, "print(1)\n" * 300, 1.7e9)
    result = CellResult(
        "ok", LONG, echo="'\ud800'", answer=Answer({"a": (1, {2}), 3: b"\0"}), variables=(Variable("x", "int"),)
    )
    call: Any = {"call": CallId("0@1"), "role": "node", "depth": 0, "model": "m"}
    events: list[AnyEvent] = [
        RunStarted(**common, question="q", context="a str", models=("m", "n"), max_depth=1, sandbox="strict"),
        RunReopened(**common, notice="[more]"),
        Superseded(**common, from_turn=2, cells=((2, 1), (3, 1)), calls=(CallId("0/1.1.2"),), results=((1, 1),)),
        NodeStarted(**common, parent=None, depth=0, model="m", question="q", context="a str"),
        CallStarted(**common, **call, turn=1, request=Request(talk, "node")),
        CallSent(run=RUN, node=ROOT, at_s=0.5, call=CallId("0@1"), attempt=1),
        CallReplied(
            **common, call=CallId("0@1"), reply=Reply(LONG, Usage(1, 2, 3), "m", 0.5), cost_usd=0.5, elapsed_s=1.5
        ),
        CellStarted(**common, cell=cell),
        SubcallEnded(**common, call=CallId("0/1.1.1"), key="k", failure=SubcallFailure("Kind", "why", 0.5)),
        SubcallEnded(**common, call=CallId("0/1.1.2"), key="k", value=[1, (2,), {"$": "tuple"}], elapsed_s=0.125),
        CellExecuted(**common, cell=cell, result=result, notice="little left"),
        CallStarted(**common, **{**call, "call": CallId("0@2")}, turn=2, request=Request(more, "node")),
        CallFailed(**common, call=CallId("0@2"), error="X", message="m", elapsed_s=0.0, text="cut"),
        NodeFinished(**common, status="complete", answer={"a": (1,)}, turns=2),
        RunFinished(**common, status="complete", answer={"a": (1,)}),
    ]
    return [replace(event, seq=seq) for seq, event in enumerate(events, start=1)]


def keep(store: SqliteStore, events: list[AnyEvent], run: RunId = RUN, **options: Any) -> None:
    journal = store.begin_run(run, "q", {"models": ["m"]}, SMALL, **options)
    for event in events:
        journal.append(event)
    journal.flush()
    journal.end()


def open_store(place: Path | str) -> SqliteStore:
    return SqliteStore(place, dump, load)


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    store = open_store(tmp_path / "new" / "runs.db")
    keep(store, story())
    assert store.events(RUN) == story()
    info = store.find("last")
    assert (info.id, info.status, info.options) == (RUN, "complete", {"models": ["m"]})
    assert store.context(info) == "abc"
    assert stat.S_IMODE((tmp_path / "new" / "runs.db").stat().st_mode) == 0o600
    store.close()


def test_without_texts_nothing_that_was_written_is_kept(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    keep(store, story(), keep_texts=False)
    with pytest.raises(IncompleteRecordError):
        store.events(RUN)
    assert len(store.events(RUN, lenient=True)) == len(story())
    store.close()
    found = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    for secret in ("long text é".encode(), b"print(1)", b"be good", b"little left"):
        assert secret not in found


def test_secrets_are_taken_out(tmp_path: Path) -> None:
    events = story()
    message = "bad key sk-123456789"
    events[4:4] = [CallFailed(run=RUN, node=ROOT, at_s=0, call=CallId("0@1"), error="E", message=message, elapsed_s=0)]
    store = open_store(tmp_path / "runs.db")
    keep(store, events, secrets=["sk-123456789"])
    store.close()
    assert b"sk-123456789" not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


def test_context_with_a_secret_is_not_stored(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    text = "the key is sk-123456789."
    size, digest = digest_context(text)
    journal = store.begin_run(
        RUN, "q", {}, ContextInfo("s", size, digest, None, text.encode()), secrets=["sk-123456789"]
    )
    journal.end()
    with pytest.raises(IncompleteRecordError, match="holds a secret and was not stored: give it again"):
        store.context(store.find("last"))
    store.close()
    assert b"sk-123456789" not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


def torn_copies(whole: Path, folder: Path, step: int) -> Iterator[SqliteStore]:
    """Stores whose log or tail ends somewhere, half of them with garbage after that."""
    data = whole.read_bytes()
    for size in (*range(0, len(data), step), len(data)):
        torn = folder / "torn"
        shutil.rmtree(torn, ignore_errors=True)
        torn.mkdir()
        for each in folder.glob("runs.db*"):
            shutil.copy(each, torn)
        garbage = os.urandom(200) if size % 2 else b""
        (torn / whole.name).write_bytes(data[:size] + garbage)
        opened = open_store(torn / "runs.db")
        yield opened
        opened.close()


def test_a_torn_log_opens_to_an_earlier_state(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    keep(store, story()[:1], RunId("r0"))
    journal = store.begin_run(RUN, "q", {}, SMALL)
    for event in story():
        journal.append(event)
        store.runs()  # brings it into the database
    for tail in tails(tmp_path):
        tail.unlink()
    seen = set()
    for opened in torn_copies(tmp_path / "runs.db-wal", tmp_path, 611):
        known = [info.id for info in opened.runs()]
        events = opened.events(RUN) if RUN in known else []
        assert events == story()[: len(events)]
        seen.add(len(events))
    store.close()
    assert len(seen) >= len(story()) // 2


def test_a_torn_tail_opens_to_an_earlier_state(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    keep(store, story()[:1], RunId("r0"))
    store.runs()
    store._connection.execute("BEGIN EXCLUSIVE")  # the database gets nothing more
    journal = store.begin_run(RUN, "q", {}, SMALL)
    for event in story():
        journal.append(event)
        journal.flush()
    whole = max(tails(tmp_path), key=lambda path: path.stat().st_size)
    seen = set()
    for opened in torn_copies(whole, tmp_path, 25):
        known = [info.id for info in opened.runs()]
        events = opened.events(RUN) if RUN in known else []
        assert events == story()[: len(events)]
        assert (opened.find("last").status == "complete") == (len(events) == len(story()))
        seen.add(len(events))
    store._connection.execute("ROLLBACK")
    store.close()
    assert seen == set(range(len(story()) + 1))


def tails(folder: Path) -> list[Path]:
    return list(folder.glob("runs.db-tail-*"))


def test_process_killed_at_its_start_blocks_none(tmp_path: Path) -> None:
    program = LEAVER.replace(
        "journal =", "sys.addaudithook(lambda event, _: event == 'os.rename' and os._exit(8))\njournal ="
    )
    command = [sys.executable, "-c", program, str(tmp_path / "runs.db"), *sys.path, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False).returncode == 8
    assert [path.name.startswith("runs.db-tail-") for path in tmp_path.glob("*.new")] == [True]
    store = open_store(tmp_path / "runs.db")
    keep(store, story())
    assert store.events(RUN) == story()
    store.close()


LEAVER = """
import os, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_store import LONG, ROOT, RUN, SMALL, open_store, story
store = open_store(Path(sys.argv[1]))
journal = store.begin_run(RUN, "q", {}, SMALL)
for event in story():
    journal.append(event)
    journal.flush()
    if sys.stdin.read(1) != "f":
        os._exit(9)
    store.runs()
"""


@pytest.mark.parametrize("moments", ["x", "fx", "ffffx", "ffffffffffffx"])
def test_what_a_killed_process_had_kept_is_there(tmp_path: Path, moments: str) -> None:
    """Each moment is an event that was kept; after "f" the database got it, before "x" the process was gone."""
    command = [sys.executable, "-c", LEAVER, str(tmp_path / "runs.db"), *sys.path, str(Path(__file__).parent)]
    assert subprocess.run(command, check=False, input=moments, text=True).returncode == 9
    store = open_store(tmp_path / "runs.db")
    assert store.events(RUN) == story()[: len(moments)]
    assert tails(tmp_path) == []
    assert store.find("last").status == ("complete" if len(moments) == len(story()) else None)
    journal = store.resume_run(RUN)
    journal.append(story()[-1])
    journal.flush()
    assert len(store.events(RUN)) == len(moments) + 1
    store.close()


def test_tail_of_a_living_process_is_left(tmp_path: Path) -> None:
    first, second = open_store(tmp_path / "runs.db"), open_store(tmp_path / "runs.db")
    keep(first, story()[:3])
    assert second.runs() == []
    assert len(tails(tmp_path)) == 2, "one is written while the other is in a checkpoint"
    first.close()
    assert second.events(RUN) == story()[:3]
    second.close()
    assert tails(tmp_path) == []


def test_a_locked_database_delays_rows_and_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path / "runs.db")
    store._connection.execute("PRAGMA busy_timeout=50")
    other = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    keep(store, story()[:5])
    with pytest.raises(UnknownRunError):
        store.events(RUN)
    assert "locked by another process" in caplog.text
    keep(store, story(), RunId("r2"))
    other.execute("ROLLBACK")
    assert store.events(RUN) == story()[:5]
    assert len(store.events(RunId("r2"))) == len(story())
    other.execute("BEGIN IMMEDIATE")
    keep(store, story(), RunId("r3"))
    store.close()
    assert len(tails(tmp_path)) >= 1
    other.execute("ROLLBACK")
    other.close()
    again = open_store(tmp_path / "runs.db")
    assert again.find("r3").status == "complete"
    again.close()


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from rlm.core.errors import StoreError
from test_store import RUN, SMALL, open_store, story
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = open_store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
journal, kept = store.begin_run(RUN, "q", {}, SMALL), 0
try:
    for event in story():
        journal.append(event)
        journal.flush()
        kept += 1
except StoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.end()
store.close()
print(kept)
"""


@pytest.mark.parametrize("room", [1000, 6000, 9000])
def test_full_disk_ends_the_run_with_its_answers(tmp_path: Path, room: int) -> None:
    """The file size limit of the process stands for a full disk."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "runs.db"), str(room), *sys.path, str(Path(__file__).parent)]
    done = subprocess.run(command, check=True, text=True, capture_output=True)
    *told, kept = done.stdout.splitlines()
    assert "make room, then `rlm resume`" in told[0]
    store = open_store(tmp_path / "runs.db")
    assert store.events(RUN) == story()[: int(kept)]
    assert store.find("last").status is None
    store.close()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    place = tmp_path / "runs.db"
    store = open_store(place)
    keep(store, story())
    with pytest.raises(UnknownRunError, match="rlm runs"):
        store.find("nothing")
    with pytest.raises(UnknownRunError):
        store.events(RunId("nothing"))
    store.close()
    raw = sqlite3.connect(place)
    raw.execute(f"PRAGMA user_version={VERSION + 1}")
    raw.commit()
    raw.close()
    with pytest.raises(StoreError, match="newer version"):
        open_store(place)
    (tmp_path / "text.db").write_text("no database, but longer than a header of one is " * 20)
    with pytest.raises(StoreError, match="is not a store"):
        open_store(tmp_path / "text.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path / "file" / "runs.db")


def test_full_database_ends_the_run_without_loss(tmp_path: Path) -> None:
    place = tmp_path / "runs.db"
    store = open_store(place)
    store._connection.execute("PRAGMA max_page_count=40")  # SQLite's own way to be out of room
    journal = store.begin_run(RUN, "q", {}, SMALL)
    events = [CellStarted(run=RUN, node=ROOT, at_s=0.0, cell=Cell(1, i + 1, f"{i} " * 4000)) for i in range(100)]
    kept = 0
    with pytest.raises(StoreError, match="disk is full"):  # noqa: PT012  which event it is told with is a matter of time
        for event in events:
            journal.append(event)
            journal.flush()
            kept += 1
            if kept % 5 == 0:
                store.runs()
    journal.end()
    store.close()
    again = open_store(place)
    assert again.events(RUN) == events[:kept]
    assert again.find("last").status is None
    again.close()


def test_run_of_a_living_process_is_not_resumed(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    store.begin_run(RUN, "q", {}, SMALL)
    store.runs()
    with pytest.raises(StoreError, match="being executed"):
        store.resume_run(RUN)
    assert is_alive(this_process())
    assert not is_alive(this_process().rpartition(":")[0] + ":1")
    store.close()


def test_run_resumed_since_it_was_read_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    keep(store, story()[:3])
    seen = store.revision(RUN)
    other = store.resume_run(RUN, revision=seen)
    other.append(story()[3])
    other.flush()
    other.end()
    with pytest.raises(StoreError, match="resumed elsewhere"):
        store.resume_run(RUN, revision=seen)
    store.resume_run(RUN, revision=store.revision(RUN)).end()
    store.close()


def test_run_of_a_gone_container_resumes(tmp_path: Path) -> None:
    """Process ids of another container say nothing here; its tail does."""
    store, elsewhere = open_store(tmp_path / "runs.db"), open_store(tmp_path / "runs.db")

    def move_to(host: str) -> None:
        with sqlite3.connect(tmp_path / "runs.db") as connection:
            connection.execute("UPDATE runs SET owner=?", [f"{host}:7:12345"])
        connection.close()

    journal = elsewhere.begin_run(RUN, "q", {}, SMALL)
    journal.append(story()[0])
    journal.flush()
    elsewhere.runs()
    move_to("other-host")
    assert store.find("last").is_running
    with pytest.raises(StoreError, match="being executed"):
        store.resume_run(RUN)
    elsewhere.close()
    assert not store.find("last").is_running
    third = open_store(tmp_path / "runs.db")
    third.resume_run(RUN)  # and has written nothing yet
    move_to("third-host")
    assert store.find("last").is_running
    third.close()
    store.resume_run(RUN).end()
    store.close()


def test_deleting_runs_gives_their_room_back(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    for number in range(30):
        keep(
            store,
            [*story(), RunReopened(run=RUN, node=ROOT, at_s=1.0, notice=os.urandom(20_000).hex())],
            RunId(f"r{number}"),
        )
    doomed = [info.id for info in store.runs()[1:]]
    before = store.size()
    store.delete(doomed)
    assert store.size() < before / 5
    assert (tmp_path / "runs.db").stat().st_size < before / 5
    store.close()


def test_run_without_texts_hides_its_paths(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    where = replace(SMALL, path="/home/me/secretname.txt", sources=("secretname.txt",), folder="/home/me")
    store.begin_run(RUN, "q", {"setup_code": "pw = 'hidden'", "max_depth": 1}, where, keep_texts=False).end()
    assert store.find("last").options == {"max_depth": 1}
    store.close()
    found = b"".join(each.read_bytes() for each in tmp_path.iterdir())
    for secret in (b"secretname", b"/home/me", b"hidden"):
        assert secret not in found


def test_no_name_names_no_run(tmp_path: Path) -> None:
    store = open_store(tmp_path / "runs.db")
    keep(store, story()[:3])
    with pytest.raises(UnknownRunError):
        store.find("")
    store.close()


def test_old_runs_make_room(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db", dump, load, max_bytes=200_000)
    big = CellStarted(run=RUN, node=ROOT, at_s=0.0, cell=Cell(1, 1, os.urandom(40_000).hex()))
    for number in range(8):
        keep(
            store, [big, RunFinished(run=RUN, node=ROOT, at_s=0.0, status="complete", answer=None)], RunId(f"r{number}")
        )
    left = [info.id for info in store.runs()]
    assert left[0] == "r7"
    assert "r0" not in left
    assert store.size() < 400_000
    store.close()


def test_where_the_store_is(tmp_path: Path) -> None:
    assert default_location({"RLM_STORE": "none"}) is None
    assert default_location({"RLM_STORE": "/x/y.db"}) == "/x/y.db"
    assert default_location({"XDG_DATA_HOME": "/data"}) == "/data/rlm/runs.db"
    assert default_location({"HOME": "/home/me"}) == "/home/me/.local/share/rlm/runs.db"
