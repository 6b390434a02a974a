"""The tree of a run as data: nodes, their turns and calls. A fold over the run's events."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallReplied,
    CallStarted,
    CellExecuted,
    NodeFinished,
    NodeStarted,
    Status,
)
from rlm.core.ids import CallId, NodeId
from rlm.core.messages import CallRole, Usage


@dataclass(slots=True)
class CallRecord:
    """One model call. ``error`` is the class name and message of a failed one; both it and ``reply`` are None while open."""

    id: CallId
    role: CallRole
    depth: int
    model: str
    turn: int
    cell: int | None
    batch: int | None
    started_s: float
    prompt: str
    ended_s: float | None = None
    reply: str | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    error: str | None = None


@dataclass(slots=True)
class NodeRecord:
    """One node: what it was asked, what it ran, and what came of it.

    ``calls`` are its own turns and the leaf calls its cells made, in the order they began; ``children`` likewise.
    """

    id: NodeId
    depth: int
    model: str
    question: str
    context: str
    started_s: float
    batch: int | None = None
    ended_s: float | None = None
    status: Status | None = None
    answer: PlainValue = None
    error: str | None = None
    calls: list[CallRecord] = field(default_factory=list)
    cells: list[tuple[Cell, CellResult]] = field(default_factory=list)
    children: list[NodeRecord] = field(default_factory=list)

    @property
    def turns(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "node"]

    @property
    def leaves(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "leaf"]

    def walk(self) -> list[NodeRecord]:
        """This node and all below it, parents before children."""
        found = [self]
        for child in self.children:
            found.extend(child.walk())
        return found


class TreeBuilder:
    """Folds events into records; ``root`` is None until the first node has started."""

    def __init__(self) -> None:
        self.root: NodeRecord | None = None
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.calls: dict[CallId, CallRecord] = {}

    def add(self, event: AnyEvent) -> None:
        match event:
            case NodeStarted():
                self._add_node(event)
            case CallStarted():
                self._add_call(event)
            case CallReplied(call=call_id):
                call = self.calls[call_id]
                call.ended_s, call.reply = event.at_s, event.reply.text
                call.usage, call.cost_usd = event.reply.usage, event.cost_usd
            case CallFailed(call=call_id):
                call = self.calls[call_id]
                call.ended_s, call.error = event.at_s, f"{event.error}: {event.message}"
            case CellExecuted():
                self.nodes[event.node].cells.append((event.cell, event.result))
            case NodeFinished():
                node = self.nodes[event.node]
                node.ended_s, node.status = event.at_s, event.status
                node.answer, node.error = event.answer, event.error
            case _:
                pass

    def _add_node(self, event: NodeStarted) -> None:
        record = NodeRecord(
            event.node, event.depth, event.model, event.question, event.context, event.at_s, batch=event.batch
        )
        self.nodes[event.node] = record
        if event.parent is None:
            self.root = record
        else:
            self.nodes[event.parent].children.append(record)

    def _add_call(self, event: CallStarted) -> None:
        record = CallRecord(
            event.call,
            event.role,
            event.depth,
            event.model,
            event.turn,
            event.cell,
            event.batch,
            event.at_s,
            event.request.messages[-1].content,
        )
        self.calls[event.call] = record
        self.nodes[event.node].calls.append(record)
