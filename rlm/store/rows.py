"""The rows of a run in the tables: its start, its events, its end. The caller opens the transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.runs import ContextInfo, RunInfo
from rlm.store.processes import this_process

QUESTION_CHARS = 500
_BEGIN = """
    INSERT OR IGNORE INTO runs (id, started, touched, question, options, context, texts_kept, owner, context_data)
    VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"""
_RUNS = "SELECT id, started, touched, status, question, options, context, texts_kept, owner, context_data FROM runs "


class RunRow(NamedTuple):
    """A run at its start. ``options`` and ``context`` are JSON."""

    id: str
    started: float
    question: str
    options: str
    context: str
    texts_kept: bool
    owner: str
    context_data: bytes | None

    @classmethod
    def of(
        cls,
        run: RunId,
        question: str,
        options: Mapping[str, JsonValue],
        context: ContextInfo,
        redact: Callable[[bytes], bytes],
        *,
        keep_texts: bool,
    ) -> RunRow:
        """A run that starts now in this process, without its secrets."""
        if not keep_texts:  # it cannot be resumed: what only a resume needs is left out
            context = replace(context, path=None, sources=(), folder="")
            options = {name: value for name, value in options.items() if name != "setup_code"}
        shown = redact(question[:QUESTION_CHARS].encode("utf-8", "replace")).decode() if keep_texts else ""
        has_secret = context.data is not None and redact(context.data) != context.data
        return cls(
            id=run,
            started=time.time(),
            question=shown,
            options=redact(orjson.dumps(dict(options))).decode(),
            context=redact(describe_context(context).encode()).decode(),
            context_data=None if has_secret or not keep_texts else context.data,  # a redacted context cannot be used
            texts_kept=keep_texts,
            owner=this_process(),
        )

    def info(self) -> RunInfo:
        """The same for readers, as of a run that no process writes."""
        return RunInfo(
            id=RunId(self.id),
            started=self.started,
            touched=self.started,
            status=None,
            question=self.question,
            options=orjson.loads(self.options),
            context=ContextInfo(**json.loads(self.context), data=self.context_data),
            texts_kept=self.texts_kept,
            is_running=False,
        )

    def pack(self) -> bytes:
        *values, data = self
        return orjson.dumps([*values, data is not None]) + b"\n" + (data or b"")

    @classmethod
    def unpack(cls, packed: bytes) -> RunRow:
        line, _, data = packed.partition(b"\n")
        *values, has_data = orjson.loads(line)
        return cls._make([*values, data if has_data else None])


def begin_run(connection: sqlite3.Connection, row: RunRow) -> None:
    """Inserts a run, unless it is there."""
    connection.execute(_BEGIN, row)


def number_of(connection: sqlite3.Connection, run: str) -> int | None:
    row = connection.execute("SELECT number FROM runs WHERE id=?", [run]).fetchone()
    return None if row is None else int(row[0])


def next_seq(connection: sqlite3.Connection, number: int) -> int:
    """The number of the next line."""
    query = "SELECT seq, data FROM events WHERE run=? ORDER BY seq DESC LIMIT 1"
    last = connection.execute(query, [number]).fetchone()
    return 0 if last is None else int(last[0] + last[1].count(b"\n") + 1)


def add_events(
    connection: sqlite3.Connection, number: int, seq: int, lines: Sequence[bytes], texts: Mapping[bytes, bytes]
) -> None:
    """Adds lines as one row: a row for each would cost twice as much as encoding it."""
    if texts:
        rows = [(number, digest, data) for digest, data in texts.items()]
        connection.executemany("INSERT OR IGNORE INTO texts (run, hash, data) VALUES (?, ?, ?)", rows)
    connection.execute("INSERT INTO events (run, seq, data) VALUES (?, ?, ?)", (number, seq, b"\n".join(lines)))


def end_run(connection: sqlite3.Connection, number: int, status: str | None) -> None:
    """Notes the end of a run. ``status`` is None if it can be resumed."""
    connection.execute("UPDATE runs SET status=?, touched=?, owner=NULL WHERE number=?", (status, time.time(), number))


def select_runs(
    connection: sqlite3.Connection, where: str, values: Sequence[object], lives: Callable[[str], bool]
) -> list[RunInfo]:
    """Runs in the order of ``where``. ``lives`` says whether the process of a name still writes."""
    return [_read_info(row, lives) for row in connection.execute(_RUNS + where, list(values))]


def describe_context(context: ContextInfo) -> str:
    """The JSON of a context's column."""
    fields = {name: getattr(context, name) for name in ("kind", "size", "digest", "path", "sources", "folder")}
    return json.dumps(fields)  # file names can hold bytes that are not UTF-8


def _read_info(row: tuple[Any, ...], lives: Callable[[str], bool]) -> RunInfo:
    run, started, touched, status, question, options, context, texts_kept, owner, data = row
    first = RunRow(run, started, question, options, context, bool(texts_kept), "", data).info()
    is_running = status is None and owner is not None and lives(owner)
    return replace(first, touched=touched, status=status, is_running=is_running)
