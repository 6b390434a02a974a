"""Journals of earlier schemas, row by row; ``test_earlier_store`` has whole stores."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from rlm.core.cells import Cell
from rlm.core.events import CallReplied, CallSent, CallStarted, CellStarted, RunFinished, RunStarted
from rlm.core.ids import NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.core.runs import ContextInfo
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.migrations import VERSION
from rlm.store.store import SqliteStore

RUN, ROOT = RunId("r1"), NodeId("0")
SCHEMA_1 = [
    b'["+",["0",0.25,"0/1.1.1",1,"m",1,1,4,"k",false,"ask",1,null,null]]',
    b'[">",["0",0.3,"0/1.1.1",1]]',
    b'["=",["0",0.75,"0/1.1.1","leaf",1,"m",null,0.5,false,"told","m",null,1,2,0,0,3,0]]',
    b'["{",["0",0.8,1,2,"x = 1",0.0,true]]',
    b'["RunFinished",{"run":"r1","node":"0","at_s":1.0,"status":"complete","answer":"told","error":null,"limit":null}]',
]


def test_schema_1_is_read_and_numbered(tmp_path: Path) -> None:
    """Each event had a line of its own, and none left out what one before it had said."""
    store = SqliteStore(tmp_path / "runs.db", dump, load)
    journal = store.begin_run(RUN, "q", {}, ContextInfo("s", 0, "", None, b""))
    journal.append(
        RunStarted(run=RUN, node=ROOT, at_s=0.0, question="q", context="", models=("m",), max_depth=1, sandbox="s")
    )
    journal.end()
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as raw:
        raw.execute("UPDATE events SET data=?", [b"\n".join(SCHEMA_1)])
        raw.execute("PRAGMA user_version=1")
        raw.commit()
    store = SqliteStore(tmp_path / "runs.db", dump, load)
    started, sent, replied, cell, finished = store.events(RUN)
    assert isinstance(started, CallStarted)
    assert started.request == Request((Message("user", "ask"),), depth=1)
    assert sent == CallSent(run=RUN, node=ROOT, at_s=0.3, seq=2, call=started.call, attempt=1)
    assert isinstance(replied, CallReplied)
    assert replied.reply == Reply("told", Usage(1, 2, 0, 0, 3), "m")
    assert cell == CellStarted(run=RUN, node=ROOT, at_s=0.8, seq=4, cell=Cell(1, 2, "x = 1"))
    assert isinstance(finished, RunFinished)
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (VERSION,)
