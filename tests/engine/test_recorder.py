"""When a run has its journal write: before anybody acts on a reply, soon after calls have begun, and not for anything else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rlm.core.cells import Cell
from rlm.core.errors import StoreError
from rlm.core.events import AnyEvent, CallReplied, CallStarted, CellStarted, NodeStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.engine.recorder import SOON_S, Recorder

TALK = Request((Message("user", "q"),), "node")
COMMON: Any = {"run": RunId("r"), "node": NodeId("0"), "at_s": 0.0}
BEGUN = CellStarted(**COMMON, cell=Cell(1, 1, "x"))
FIRST, SECOND = (
    CallReplied(
        **COMMON, call=CallId(f"0@{number}"), role="node", depth=0, model="m", reply=Reply("a", Usage(1), "m"),
        cost_usd=None, elapsed_s=0,
    )
    for number in (1, 2)
)  # fmt: skip


class Counting:
    """A journal that says how many events each write had."""

    def __init__(self) -> None:
        self.pending = 0
        self.writes: list[int] = []
        self.fails = False

    def append(self, event: AnyEvent) -> None:
        self.pending += 1

    def keep(self) -> None:
        if self.fails:
            raise StoreError("full")
        self.writes.append(self.pending)
        self.pending = 0

    def end(self) -> None:
        pass


def recorder() -> tuple[Recorder, Counting]:
    made, journal = Recorder(RunId("r"), ()), Counting()
    made.emit(NodeStarted(**COMMON, parent=None, depth=0, model="m", question="q", context="c"))
    for number in (1, 2):
        made.emit(
            CallStarted(
                **COMMON, call=CallId(f"0@{number}"), role="node", depth=0, model="m", turn=number, request=TALK
            )
        )
    made.journal = journal
    return made, journal


def test_only_replies_are_worth_a_write_and_take_along_what_came_before() -> None:
    made, journal = recorder()
    made.emit(BEGUN)
    made.keep()
    assert journal.writes == []
    made.emit(FIRST)
    made.emit(SECOND)
    made.emit(BEGUN)
    made.keep()
    made.keep()  # of whoever waits for the second reply: it is there
    assert journal.writes == [4]


def test_while_a_reply_cannot_be_kept_nobody_gets_past_it() -> None:
    made, journal = recorder()
    made.emit(FIRST)
    journal.fails = True
    for _ in range(2):
        with pytest.raises(StoreError, match="full"):
            made.keep()


async def test_calls_that_begin_share_one_write_soon_after() -> None:
    made, journal = recorder()
    for _ in range(100):
        made.emit(BEGUN)
        made.keep_soon()
    assert journal.writes == []
    await asyncio.sleep(SOON_S * 2)
    assert journal.writes == [100]
    journal.fails = True
    made.keep_soon()
    await asyncio.sleep(SOON_S * 2)  # nobody is told here: the next reply cannot be kept
    journal.fails = False
    made.emit(BEGUN)
    made.keep_soon()
    await asyncio.sleep(SOON_S * 2)
    assert journal.writes == [100, 1]
