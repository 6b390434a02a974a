"""What a run is doing now: a fold over its events into counts, small enough for any number of calls.

Pure: no drawing, no clock, no locks; whoever feeds it does so from one thread. Texts are kept as they came (cut, never
cleaned): making them fit for a screen is the drawer's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rlm.core.cells import CellEnd
from rlm.core.events import (
    AnyEvent,
    CallBilled,
    CallFailed,
    CallReplied,
    CallRetried,
    CallSent,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunStarted,
    Status,
)
from rlm.core.ids import CallId, NodeId
from rlm.core.usage import Spend

Activity: TypeAlias = Literal["starting", "queued", "asking", "reading", "executing", "finished"]
"""What a node does: waits for a slot (queued), for its model (asking), reads a reply, executes a cell."""

KEPT_CHARS = 400
"""Characters kept of a question, a line of code, an error: no screen shows more of one line."""


@dataclass(slots=True)
class Tally:
    """How many of some calls wait for a slot, run, are answered, failed, or were dropped when their node ended."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    dropped: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.done + self.failed + self.dropped

    @property
    def open(self) -> int:
        return self.waiting + self.running

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.waiting + other.waiting,
            self.running + other.running,
            self.done + other.done,
            self.failed + other.failed,
            self.dropped + other.dropped,
        )


@dataclass(slots=True)
class Group:
    """The sub-calls of one batch, or (``batch`` None) the single sub-calls of one cell: leaf calls and child nodes."""

    batch: int | None
    tally: Tally = field(default_factory=Tally)
    children: list[NodeProgress] = field(default_factory=list)


@dataclass(slots=True)
class Step:
    """One cell: the line that tells it from others, how it ended, and what it asked for."""

    name: str
    code: str
    started_s: float
    ended_s: float | None = None
    end: CellEnd | None = None
    error: str | None = None
    groups: dict[int | None, Group] = field(default_factory=dict)

    @property
    def tally(self) -> Tally:
        return sum((group.tally for group in self.groups.values()), Tally())


@dataclass(slots=True)
class NodeProgress:
    """One node. The steps of a finished one are forgotten, except the root's."""

    id: NodeId
    depth: int
    model: str
    question: str
    context: str
    started_s: float
    group: Group | None
    activity: Activity = "starting"
    turn: int = 0
    cells: int = 0
    cell_errors: int = 0
    ended_s: float | None = None
    status: Status | None = None
    error: str | None = None
    steps: list[Step] = field(default_factory=list)
    open_calls: int = 0


@dataclass(slots=True)
class _OpenCall:
    node: NodeProgress
    tallies: tuple[Tally, ...]
    is_turn: bool
    sent: bool = False


@dataclass(slots=True)
class Progress:
    """The whole run. ``calls`` counts every call to a model, turns of nodes and leaf calls alike.

    Attributes:
        at_s: the time of the latest event; ``finished`` says whether it was the last.
        nodes: tally of nodes; their ``waiting`` and ``dropped`` stay 0.
        deepest: the greatest depth at which a call was made.
    """

    started: RunStarted | None = None
    root: NodeProgress | None = None
    calls: Tally = field(default_factory=Tally)
    nodes: Tally = field(default_factory=Tally)
    spend: Spend = field(default_factory=Spend)
    retries: int = 0
    deepest: int = 0
    at_s: float = 0.0
    status: Status | None = None
    limit: str | None = None
    error: str | None = None
    _nodes: dict[NodeId, NodeProgress] = field(default_factory=dict)
    _open: dict[CallId, _OpenCall] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.status is not None

    def node(self, node_id: NodeId) -> NodeProgress | None:
        return self._nodes.get(node_id)

    def add(self, event: AnyEvent) -> None:
        """Takes one event in. Events of nodes and calls whose start was not seen are left out."""
        self.at_s = max(self.at_s, event.at_s)
        match event:
            case CallStarted():
                self._call_started(event)
            case CallSent():
                self._call_sent(event)
            case CallReplied():
                self.spend = self.spend.plus(event.reply.usage, event.cost_usd)
                self._call_ended(event.call, failed=False)
            case CallBilled():
                self.spend = self.spend.plus(event.usage, event.cost_usd)
            case CallFailed():
                self._call_ended(event.call, failed=True)
            case CallRetried():
                self.retries += 1
                self._call_waits_again(event)
            case CellStarted():
                self._cell_started(event)
            case CellExecuted():
                self._cell_executed(event)
            case NodeStarted():
                self._node_started(event)
            case NodeFinished():
                self._node_finished(event)
            case RunStarted():
                self.started = event
            case RunFinished():
                self._drop(list(self._open))
                self.status, self.limit, self.error = event.status, event.limit, event.error

    def _call_started(self, event: CallStarted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        is_turn = event.role == "node"
        tallies: tuple[Tally, ...] = (self.calls,)
        if is_turn:
            node.turn, node.activity = event.turn, "queued"
        else:
            name = f"{event.turn}.{event.cell}" if event.cell is not None else None
            tallies = (self.calls, _group(_step(node, name, event.at_s), event.batch).tally)
        for tally in tallies:
            tally.waiting += 1
        node.open_calls += 1
        self.deepest = max(self.deepest, event.depth)
        self._open[event.call] = _OpenCall(node, tallies, is_turn)

    def _call_sent(self, event: CallSent) -> None:
        call = self._open.get(event.call)
        if call is None or call.sent:
            return
        call.sent = True
        if call.is_turn:
            call.node.activity = "asking"
        for tally in call.tallies:
            tally.waiting -= 1
            tally.running += 1

    def _call_waits_again(self, event: CallRetried) -> None:
        call = self._open.get(event.call)
        if call is None or not call.sent:
            return
        call.sent = False
        if call.is_turn:
            call.node.activity = "queued"
        for tally in call.tallies:
            tally.running -= 1
            tally.waiting += 1

    def _call_ended(self, call_id: CallId, *, failed: bool) -> None:
        call = self._close(call_id)
        if call is None:
            return
        if call.is_turn:
            call.node.activity = "reading"
        for tally in call.tallies:
            if failed:
                tally.failed += 1
            else:
                tally.done += 1

    def _close(self, call_id: CallId) -> _OpenCall | None:
        call = self._open.pop(call_id, None)
        if call is None:
            return None
        call.node.open_calls -= 1
        for tally in call.tallies:
            if call.sent:
                tally.running -= 1
            else:
                tally.waiting -= 1
        return call

    def _drop(self, call_ids: list[CallId]) -> None:
        for call_id in call_ids:
            call = self._close(call_id)
            for tally in call.tallies if call else ():
                tally.dropped += 1

    def _cell_started(self, event: CellStarted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        node.activity = "executing"
        node.cells += 1
        node.steps.append(Step(event.cell.name, _telling_line(event.cell.code), event.at_s))

    def _cell_executed(self, event: CellExecuted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        step = _step(node, event.cell.name, event.at_s)
        step.ended_s, step.end = event.at_s, event.result.end
        step.error = event.result.error[:KEPT_CHARS] if event.result.error else None
        node.activity = "reading"
        node.cell_errors += event.result.end != "ok"

    def _node_started(self, event: NodeStarted) -> None:
        parent = self._nodes.get(event.parent) if event.parent is not None else None
        group = _group(_step(parent, None, event.at_s), event.batch) if parent else None
        node = NodeProgress(
            id=event.node,
            depth=event.depth,
            model=event.model,
            question=event.question[:KEPT_CHARS],
            context=event.context[:KEPT_CHARS],
            started_s=event.at_s,
            group=group,
        )
        self._nodes[event.node] = node
        self.nodes.running += 1
        if event.parent is None:
            self.root = node
        if group is not None:
            group.tally.running += 1
            group.children.append(node)

    def _node_finished(self, event: NodeFinished) -> None:
        node = self._nodes.get(event.node)
        if node is None or node.status is not None:
            return
        if node.open_calls:
            self._drop([call_id for call_id, call in self._open.items() if call.node is node])
        node.activity, node.status, node.ended_s = "finished", event.status, event.at_s
        node.error = event.error[:KEPT_CHARS] if event.error else None
        if node is not self.root:
            node.steps.clear()
        for tally in (self.nodes, node.group.tally) if node.group else (self.nodes,):
            tally.running -= 1
            if event.status in ("complete", "partial"):
                tally.done += 1
            else:
                tally.failed += 1


def _step(node: NodeProgress, name: str | None, at_s: float) -> Step:
    """The named step, else (``name`` None) the latest; a new one where the event that began it was not seen."""
    for step in reversed(node.steps):
        if name is None or step.name == name:
            return step
    node.steps.append(Step(name or "", "", at_s))
    return node.steps[-1]


def _group(step: Step, batch: int | None) -> Group:
    group = step.groups.get(batch)
    if group is None:
        group = step.groups[batch] = Group(batch)
    return group


def _telling_line(code: str) -> str:
    """The first line that is neither empty nor a comment: what a reader recognises a cell by."""
    first = ""
    for line in _lines(code[: KEPT_CHARS * 10]):
        first = first or line
        if not line.startswith("#"):
            return line[:KEPT_CHARS]
    return first[:KEPT_CHARS]


def _lines(code: str) -> Iterator[str]:
    return (line.strip() for line in code.splitlines() if line.strip())
