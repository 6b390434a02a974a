"""When a run has its journal write: before anybody acts on a reply, soon after calls have begun, and not for anything else."""

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
    """A journal that says how many events each write had."""

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


def recorder() -> tuple[Recorder, Counting]:
    made, journal = Recorder(RunId("r"), ()), Counting()
    made.emit(NodeStarted, ROOT, parent=None, depth=0, model="m", question="q", context="c")
    for turn in (1, 2):
        made.emit(CallStarted, ROOT, call=CallId(f"0@{turn}"), role="node", depth=0, model="m", turn=turn, request=TALK)
    made.journal = journal
    return made, journal


async def test_only_replies_are_worth_a_write_and_take_along_what_came_before() -> None:
    made, journal = recorder()
    start_cell(made)
    made.flush()
    assert journal.writes == []
    reply(made, 1)
    reply(made, 2)
    start_cell(made)
    made.flush()
    made.flush()  # of whoever waits for the second reply: it is there
    assert journal.writes == [4]


async def test_while_a_reply_cannot_be_kept_nobody_gets_past_it() -> None:
    made, journal = recorder()
    reply(made, 1)
    journal.fails = True
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            made.flush()


async def test_calls_that_begin_share_one_write_soon_after() -> None:
    made, journal = recorder()
    for _ in range(100):
        start_cell(made)
        made.flush_soon()
    assert journal.writes == []
    await asyncio.sleep(FLUSH_DELAY_S * 2)
    assert journal.writes == [100]
    journal.fails = True
    made.flush_soon()
    await asyncio.sleep(FLUSH_DELAY_S * 2)  # nobody is told here: the next reply cannot be kept
    journal.fails = False
    start_cell(made)
    made.flush_soon()
    await asyncio.sleep(FLUSH_DELAY_S * 2)
    assert journal.writes == [100, 1]
