"""The rows of a run, as the tables have them: its beginning, its events, its end. Called inside a transaction of the caller's."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from rlm.core.ids import RunId
from rlm.store.runs import ContextInfo, RunInfo

_BEGIN = """
    INSERT OR IGNORE INTO runs (id, started, touched, question, options, context, texts_kept, owner, context_data)
    VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"""
_RUNS = "SELECT id, started, touched, status, question, options, context, texts_kept, owner, context_data FROM runs "


class RunRow(NamedTuple):
    """What a run begins with. ``options`` and ``context`` are JSON."""

    id: str
    started: float
    question: str
    options: str
    context: str
    texts_kept: bool
    owner: str
    context_data: bytes | None

    def pack(self) -> bytes:
        *values, data = self
        return orjson.dumps([*values, data is not None]) + b"\n" + (data or b"")

    @classmethod
    def unpack(cls, packed: bytes) -> RunRow:
        line, _, data = packed.partition(b"\n")
        *values, has_data = orjson.loads(line)
        return cls._make([*values, data if has_data else None])


def begin_run(connection: sqlite3.Connection, row: RunRow) -> None:
    """Nothing happens where it is there already."""
    connection.execute(_BEGIN, row)


def number_of(connection: sqlite3.Connection, run: str) -> int | None:
    found = connection.execute("SELECT number FROM runs WHERE id=?", [run]).fetchone()
    return None if found is None else int(found[0])


def next_seq(connection: sqlite3.Connection, number: int) -> int:
    """The number of the event that follows what is there."""
    query = "SELECT seq, data FROM events WHERE run=? ORDER BY seq DESC LIMIT 1"
    last = connection.execute(query, [number]).fetchone()
    return 0 if last is None else int(last[0] + last[1].count(b"\n") + 1)


def add_events(
    connection: sqlite3.Connection, number: int, seq: int, lines: Sequence[bytes], texts: Mapping[bytes, bytes]
) -> None:
    """Events that follow each other are one row: a row for each would cost twice as much as making its line."""
    if texts:
        rows = [(number, digest, data) for digest, data in texts.items()]
        connection.executemany("INSERT OR IGNORE INTO texts (run, hash, data) VALUES (?, ?, ?)", rows)
    connection.execute("INSERT INTO events (run, seq, data) VALUES (?, ?, ?)", (number, seq, b"\n".join(lines)))


def end_run(connection: sqlite3.Connection, number: int, status: str | None) -> None:
    """``status`` is None where it can be taken up again."""
    connection.execute("UPDATE runs SET status=?, touched=?, owner=NULL WHERE number=?", (status, time.time(), number))


def select_runs(connection: sqlite3.Connection, where: str, values: Sequence[object] = ()) -> list[RunInfo]:
    return [_read_info(row) for row in connection.execute(_RUNS + where, list(values))]


def describe_context(context: ContextInfo) -> str:
    """A context as its column has it."""
    fields = {name: getattr(context, name) for name in ("kind", "size", "digest", "path", "sources", "folder")}
    return json.dumps(fields)  # names of files may hold what is no UTF-8


def _read_info(row: tuple[object, ...]) -> RunInfo:
    run, started, touched, status, question, options, context, texts_kept, owner, data = row
    return RunInfo(
        id=RunId(str(run)),
        started=float(started),  # type: ignore[arg-type]
        touched=float(touched),  # type: ignore[arg-type]
        status=None if status is None else str(status),
        question=str(question),
        options=orjson.loads(str(options)),
        context=ContextInfo(**json.loads(str(context)), data=data if isinstance(data, bytes) else None),
        texts_kept=bool(texts_kept),
        owner=None if owner is None else str(owner),
    )
