"""Events of a recorded run, in short."""

from __future__ import annotations

from typing import Any

from rlm.core.cells import Cell, CellEnd, CellResult
from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallReplied,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeStarted,
    SubcallEnded,
)
from rlm.core.history import History
from rlm.core.ids import ROOT, CallId, NodeId, RunId, SubcallPlace, summary_call, turn_call
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.core.subcalls import SubcallFailure

RUN = RunId("run")
REQUEST = Request((Message("user", "prompt"),))


class Record:
    """A list of events that grows by what a node does."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.node("0")

    def fold(self) -> History:
        history = History()
        for event in self.events:
            history.note(event)
        return history

    def add(self, kind: Any, node: str = "0", **fields: Any) -> Record:
        self.events.append(kind(run=RUN, node=NodeId(node), at_s=float(len(self.events)), **fields))
        return self

    def node(self, node: str, key: str = "") -> Record:
        parent = None if node == ROOT else SubcallPlace.parse(node).node
        return self.add(
            NodeStarted, node, parent=parent, depth=node.count("/"), model="m", question="q", context="c", key=key
        )

    def turn(self, turn: int, node: str = "0", *, limit: str | None = None, replied: bool = True) -> Record:
        call = turn_call(NodeId(node), turn)
        self.add(CallStarted, node, call=call, role="node", depth=0, model="m", turn=turn, request=REQUEST, limit=limit)
        return self.reply(call, node) if replied else self

    def summary(self, turn: int, node: str = "0") -> Record:
        call = summary_call(NodeId(node), turn)
        return self.add(CallStarted, node, call=call, role="leaf", depth=0, model="m", turn=turn, request=REQUEST)

    def cell(self, turn: int, number: int = 1, node: str = "0", code: str = "x", end: CellEnd | None = "ok") -> Record:
        cell = Cell(turn, number, code)
        self.add(CellStarted, node, cell=cell)
        return self if end is None else self.add(CellExecuted, node, cell=cell, result=CellResult(end))

    def executed(self, turn: int, number: int = 1, node: str = "0", end: CellEnd = "ok") -> Record:
        return self.add(CellExecuted, node, cell=Cell(turn, number, "x"), result=CellResult(end))

    def leaf(self, path: str, key: str = "k", *, replied: bool = True) -> Record:
        place = SubcallPlace.parse(path)
        self.add(
            CallStarted, place.node, call=CallId(path), role="leaf", depth=1, model="m", turn=place.turn,
            cell=place.cell, request=REQUEST, key=key,
        )  # fmt: skip
        return self.reply(path, place.node) if replied else self

    def reply(self, call: str, node: str = "0") -> Record:
        return self.add(
            CallReplied, node, call=CallId(call), reply=Reply("yes", Usage(), "m"), cost_usd=0.0,
            elapsed_s=0.5,
        )  # fmt: skip

    def failed(self, call: str, error: str, node: str = "0") -> Record:
        return self.add(CallFailed, node, call=CallId(call), error=error, message="", elapsed_s=0.5)

    def refused(self, path: str, key: str = "k") -> Record:
        failure = SubcallFailure("BudgetExceeded", "no budget")
        return self.add(SubcallEnded, SubcallPlace.parse(path).node, call=CallId(path), key=key, failure=failure)

    def ended(self, path: str, value: object = "answer", key: str = "k") -> Record:
        return self.add(SubcallEnded, SubcallPlace.parse(path).node, call=CallId(path), key=key, value=value)
