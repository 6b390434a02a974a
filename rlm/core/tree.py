"""The tree of a run as data: nodes, their turns and calls. A fold over the run's events."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.events import (
    AnyEvent,
    CallBilled,
    CallFailed,
    CallReplied,
    CallSent,
    CallStarted,
    CellExecuted,
    NodeFinished,
    NodeStarted,
    Status,
)
from rlm.core.ids import CallId, NodeId
from rlm.core.messages import CallRole, Usage
from rlm.core.observations import cut_middle

KEPT_PROMPT_CHARS = 32_000_000  # of leaf calls in one tree, as a whole; the journal has them all
CUT_PROMPT_CHARS = 600  # of each that comes when so many are kept: a generator may yield gigabytes


@dataclass(slots=True)
class CallRecord:
    """One model call. ``error`` is the class name and message of a failed one; both it and ``reply`` are None while open.

    ``prompt`` is the newest message, of leaf calls without its middle once a run has made tens of thousands of long ones.
    ``sent_s`` is when it first left, None while it waits for a slot or where it left at once. ``cached``: the answer came from
    an earlier run.
    """

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
    sent_s: float | None = None
    cached: bool = False

    def bill(self, usage: Usage, cost_usd: float | None) -> None:
        """Adds what one of its attempts did cost."""
        self.usage = self.usage + usage
        self.cost_usd = None if cost_usd is None else (self.cost_usd or 0.0) + cost_usd


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


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What a run left undone.

    Attributes:
        refused_calls: were never sent, because a limit forbade them.
        cancelled_calls: were ended before their reply.
        nodes: ended without an answer, or with one from what they had.
        cells: were interrupted.
    """

    refused_calls: int = 0
    cancelled_calls: int = 0
    nodes: tuple[NodeId, ...] = ()
    cells: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.refused_calls or self.cancelled_calls or self.nodes or self.cells)


def find_unfinished(root: NodeRecord | None, refused_calls: int) -> Unfinished:
    """What is left undone in a tree. ``cells`` are named by node and cell: ``"0:2.1"``."""
    nodes = root.walk() if root is not None else []
    calls = [call for node in nodes for call in node.calls]
    return Unfinished(
        refused_calls,
        sum(call.error is not None and call.error.startswith("CancelledError") for call in calls),
        tuple(node.id for node in nodes[1:] if node.status not in ("complete", None)),
        tuple(f"{node.id}:{cell.name}" for node in nodes for cell, result in node.cells if result.end == "interrupted"),
    )


class TreeBuilder:
    """Folds events into records; ``root`` is None until the first node has started."""

    def __init__(self) -> None:
        self.root: NodeRecord | None = None
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.calls: dict[CallId, CallRecord] = {}
        self._prompt_chars = 0

    def add(self, event: AnyEvent) -> None:
        match event:
            case NodeStarted():
                self._add_node(event)
            case CallStarted():
                self._add_call(event)
            case CallSent(call=call_id):
                call = self.calls[call_id]
                call.sent_s = event.at_s if call.sent_s is None else call.sent_s
            case CallReplied(call=call_id):
                call = self.calls[call_id]
                call.ended_s, call.reply, call.cached = event.at_s, event.reply.text, event.cached
                call.bill(event.reply.usage, event.cost_usd)
            case CallFailed(call=call_id):
                call = self.calls[call_id]
                call.ended_s, call.error = event.at_s, f"{event.error}: {event.message}"
            case CallBilled(call=call_id):
                self.calls[call_id].bill(event.usage, event.cost_usd)
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

    def _kept_prompt(self, event: CallStarted) -> str:
        prompt = event.request.messages[-1].content
        if event.role == "leaf":
            self._prompt_chars += len(prompt)
            if self._prompt_chars > KEPT_PROMPT_CHARS:
                return cut_middle(prompt, CUT_PROMPT_CHARS)
        return prompt

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
            self._kept_prompt(event),
        )
        self.calls[event.call] = record
        self.nodes[event.node].calls.append(record)
