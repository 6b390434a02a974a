"""Flushes of the journal: before anything acts on a reply, and shortly after calls have started."""

from __future__ import annotations

import asyncio

import pytest

from rlm.core.cells import Cell
from rlm.core.errors import StoreError
from rlm.core.events import AnyEvent, CallReplied, CallStarted, CellStarted, NodeStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.engine.recorder import FLUSH_DELAY_S, Recorder

TALK = Request((Message("user", "q"),), "node")
ROOT = NodeId("0")


def start_cell(recorder: Recorder) -> None:
    recorder.emit(CellStarted, ROOT, cell=Cell(1, 1, "x"))


def reply(recorder: Recorder, turn: int) -> None:
    reply = Reply("a", Usage(1), "m")
    recorder.emit(CallReplied, ROOT, call=CallId(f"0@{turn}"), reply=reply, cost_usd=None, elapsed_s=0.0)


class Counting:
    """A journal that counts the events of each write."""

    def __init__(self) -> None:
        self.pending = 0
        self.writes: list[int] = []
        self.fails = False

    def append(self, event: AnyEvent) -> None:
        self.pending += 1

    def flush(self) -> None:
        if self.fails:
            raise StoreError("full")
        self.writes.append(self.pending)
        self.pending = 0

    def end(self) -> None:
        pass


def open_recorder() -> tuple[Recorder, Counting]:
    recorder, journal = Recorder(RunId("r"), ()), Counting()
    recorder.emit(NodeStarted, ROOT, parent=None, depth=0, model="m", question="q", context="c")
    for turn in (1, 2):
        recorder.emit(
            CallStarted, ROOT, call=CallId(f"0@{turn}"), role="node", depth=0, model="m", turn=turn, request=TALK
        )
    recorder.journal = journal
    return recorder, journal


async def test_only_replies_are_flushed() -> None:
    recorder, journal = open_recorder()
    start_cell(recorder)
    recorder.flush()
    assert journal.writes == []
    reply(recorder, 1)
    reply(recorder, 2)
    start_cell(recorder)
    recorder.flush()
    recorder.flush()  # the second reply is there already
    assert journal.writes == [4]


async def test_failed_flush_raises_until_it_succeeds() -> None:
    recorder, journal = open_recorder()
    reply(recorder, 1)
    journal.fails = True
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            recorder.flush()


async def test_started_calls_share_one_flush() -> None:
    recorder, journal = open_recorder()
    for _ in range(100):
        start_cell(recorder)
        recorder.flush_soon()
    assert journal.writes == []
    await asyncio.sleep(FLUSH_DELAY_S * 2)
    assert journal.writes == [100]
    journal.fails = True
    recorder.flush_soon()
    await asyncio.sleep(FLUSH_DELAY_S * 2)  # no error here: the next reply raises it
    journal.fails = False
    start_cell(recorder)
    recorder.flush_soon()
    await asyncio.sleep(FLUSH_DELAY_S * 2)
    assert journal.writes == [100, 1]
