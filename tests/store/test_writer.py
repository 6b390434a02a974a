"""The writer: flushes to the tail, checkpoints to the database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rlm.core.cells import Cell
from rlm.core.errors import StoreError
from rlm.core.events import CellStarted, RunFinished
from rlm.core.ids import ROOT, RunId
from rlm.core.runs import ContextInfo
from rlm.sandbox.worker.wire.values import dump
from rlm.store.codec import Encoder
from rlm.store.migrations import open_database
from rlm.store.rows import RunRow
from rlm.store.writer import OpenRun, Writer

RUN = RunId("run-1")


@contextmanager
def writer_at(folder: Path) -> Iterator[tuple[Writer, sqlite3.Connection, list[str]]]:
    place, checkpoints = str(folder / "runs.db"), list[str]()
    connection = open_database(place)
    writer = Writer(connection, place, threading.RLock(), lambda: checkpoints.append("new runs"))
    yield writer, connection, checkpoints
    writer.close()
    connection.close()


def open_run(writer: Writer) -> OpenRun:
    row = RunRow.of(RUN, "q", {}, ContextInfo("s", 0, ""), lambda data: data, keep_texts=True)
    run = OpenRun(RUN, Encoder(dump), lambda data: data, row)
    writer.begin(run)
    return run


def start_cell(run: OpenRun, seq: int) -> None:
    run.pending.append(CellStarted(run=RUN, node=ROOT, at_s=0.5, seq=seq, cell=Cell(1, seq, f"code {seq}")))


def lines(connection: sqlite3.Connection) -> list[bytes]:
    return [line for row in connection.execute("SELECT data FROM events ORDER BY seq") for line in row[0].split(b"\n")]


def test_flush_writes_one_line_for_all_pending_events(tmp_path: Path) -> None:
    with writer_at(tmp_path) as (writer, connection, _):
        run = open_run(writer)
        start_cell(run, 1)
        start_cell(run, 2)
        writer.flush(run)
        writer.flush(run)
        start_cell(run, 3)
        writer.flush(run)
        writer.checkpoint()
        assert [line.count(b"code ") for line in lines(connection)] == [2, 1]


def test_checkpoint_empties_the_tail(tmp_path: Path) -> None:
    with writer_at(tmp_path) as (writer, connection, checkpoints):
        run = open_run(writer)
        start_cell(run, 1)
        writer.checkpoint()
        start_cell(run, 2)
        writer.checkpoint()
        assert checkpoints == ["new runs"]
        assert len(lines(connection)) == 2
        assert [path.stat().st_size for path in tmp_path.glob("*-tail-*")] == [0] * writer.own_tails


def test_status_is_written_at_the_end(tmp_path: Path) -> None:
    with writer_at(tmp_path) as (writer, connection, _):
        run = open_run(writer)
        run.pending.append(RunFinished(run=RUN, node=ROOT, at_s=1.0, seq=1, status="partial", answer=None))
        writer.end(run)
        writer.checkpoint()
        assert connection.execute("SELECT status, owner FROM runs").fetchall() == [("partial", None)]


def test_event_that_cannot_be_encoded_ends_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with writer_at(tmp_path) as (writer, connection, _):
        run = open_run(writer)
        start_cell(run, 1)
        writer.flush(run)
        run.pending.append("no event")  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(StoreError, match=f"an event of run {RUN} cannot be written"):
                writer.flush(run)
        writer.end(run)
        writer.checkpoint()
        assert len(lines(connection)) == 1
        assert connection.execute("SELECT status FROM runs").fetchone() == (None,)
        assert "cannot be written" in caplog.text


def test_closed_writer_refuses_a_flush(tmp_path: Path) -> None:
    with writer_at(tmp_path) as (writer, _, _):
        run = open_run(writer)
    start_cell(run, 1)
    with pytest.raises(StoreError, match="was closed while a run went on"):
        writer.flush(run)


def test_deleted_run_gets_no_rows(tmp_path: Path) -> None:
    with writer_at(tmp_path) as (writer, connection, _):
        run = open_run(writer)
        start_cell(run, 1)
        writer.checkpoint()
        connection.execute("DELETE FROM runs")
        start_cell(run, 2)
        writer.flush(run)
        writer.checkpoint()
        assert lines(connection) == []
