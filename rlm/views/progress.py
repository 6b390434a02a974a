"""Folds a run's events into the state that views show. Its size does not grow with the number of calls.

Pure: no drawing, no clock, no locks. One thread feeds it. Texts are cut but not cleaned: the code that draws them does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field

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
    NodeQueued,
    NodeStarted,
    RunFinished,
    RunResumed,
    RunStarted,
    Status,
    SubcallEnded,
    Superseded,
    ToolEnded,
    ToolStarted,
)
from rlm.core.history import NOT_OUTCOMES
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.subcalls import SubcallFailure
from rlm.core.usage import Spend
from rlm.core.values import slotted
from rlm.views.state import MAX_TEXT_CHARS, CellProgress, CountedCall, End, NodeProgress, Tally


@slotted
class _OpenCall:
    """A call on its way: a turn, or (``cell`` set) a leaf call."""

    node: NodeProgress
    tallies: tuple[Tally, ...]
    turn: int
    cell: CellProgress | None
    sent: bool = False


@slotted
class Progress:
    """The state of a whole run. ``calls`` counts turns of nodes and leaf calls alike.

    Attributes:
        at_s: the time of the latest event.
        nodes: tally of nodes; none of them is ever ``waiting`` or ``cancelled``.
        tools: tally of executions of tools; none of them is ever ``waiting``.
    """

    started: RunStarted | None = None
    root: NodeProgress | None = None
    calls: Tally = field(default_factory=Tally)
    nodes: Tally = field(default_factory=Tally)
    tools: Tally = field(default_factory=Tally)
    spend: Spend = field(default_factory=Spend)
    retries: int = 0
    at_s: float = 0.0
    status: Status | None = None
    limit: str | None = None
    _nodes: dict[NodeId, NodeProgress] = field(default_factory=dict)
    _open: dict[CallId, _OpenCall] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.status is not None

    def node(self, node_id: NodeId) -> NodeProgress | None:
        return self._nodes.get(node_id)

    def add(self, event: AnyEvent) -> None:
        """Folds one event. Events of nodes and calls are ignored if their start was not seen."""
        self.at_s = max(self.at_s, event.at_s)
        match event:
            case CallStarted():
                self._start_call(event)
            case CallSent():
                self._send_call(event)
            case CallReplied():
                self.spend = self.spend.plus(event.reply.usage, event.cost_usd)
                self._end_call(event.call, "done")
            case CallBilled():
                self.spend = self.spend.plus(event.usage, event.cost_usd)
            case CallFailed():
                self._end_call(event.call, "cancelled" if event.error in NOT_OUTCOMES else "failed")
            case CallRetried():
                self.retries += 1
                self._retry_call(event)
            case SubcallEnded(failure=SubcallFailure()):
                self._fail_subcall(event)
            case CellStarted():
                self._start_cell(event)
            case CellExecuted():
                self._end_cell(event)
            case NodeStarted():
                self._start_node(event)
            case NodeFinished():
                self._finish_node(event)
            case _:
                self._add_run_event(event)

    def _add_run_event(self, event: AnyEvent) -> None:
        match event:
            case RunStarted():
                self.started = event
            case RunResumed():
                self.status = self.limit = None
                if self.root is not None:
                    self._continue_node(self.root)
            case Superseded():
                self._drop(event)
            case NodeQueued():
                if (node := self._nodes.get(event.node)) is not None:
                    node.place = event.place
            case ToolStarted() | ToolEnded():
                self._count_tool(event)
            case RunFinished():
                self._cancel(list(self._open))
                self.status, self.limit = event.status, event.limit
            case _:
                pass

    # Calls.

    def _start_call(self, event: CallStarted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        self._continue_node(node)
        cell: CellProgress | None = None
        tallies: tuple[Tally, ...] = (self.calls,)
        if event.role == "node":
            node.turn, node.activity = event.turn, "queued"
        else:
            cell = node.cell(f"{event.turn}.{event.cell}" if event.cell is not None else None, event.at_s)
            tallies = (self.calls, cell.group(event.batch).tally)
        for tally in tallies:
            tally.waiting += 1
        node.open_calls += 1
        self._open[event.call] = _OpenCall(node, tallies, event.turn, cell)

    def _send_call(self, event: CallSent) -> None:
        call = self._open.get(event.call)
        if call is None or call.sent:
            return
        call.sent = True
        if call.cell is None:
            call.node.activity = "asking"
        for tally in call.tallies:
            tally.waiting -= 1
            tally.running += 1

    def _retry_call(self, event: CallRetried) -> None:
        call = self._open.get(event.call)
        if call is None or not call.sent:
            return
        call.sent = False
        if call.cell is None:
            call.node.activity = "queued"
        for tally in call.tallies:
            tally.running -= 1
            tally.waiting += 1

    def _end_call(self, call_id: CallId, end: End) -> None:
        call = self._close_call(call_id)
        if call is None:
            return
        counted = CountedCall.count(*((tally, end) for tally in call.tallies))
        if call.cell is None:
            call.node.activity = "reading"
            if end != "done":
                call.node.unanswered[call.turn] = counted
        elif call.cell.end is None:
            call.cell.ended[call_id] = counted

    def _fail_subcall(self, event: SubcallEnded) -> None:
        """Counts a sub-call as failed whose reply was of no use, or that was refused before it became a call."""
        node = self._nodes.get(event.node)
        if node is None or NodeId(event.call) in self._nodes:
            return
        place = SubcallPlace.parse(event.call)
        cell = node.cell(f"{place.turn}.{place.cell}", event.at_s)
        ended = cell.ended.get(event.call)
        if ended is None and not event.prefetched:
            newest = next(reversed(cell.groups.values()), None) or cell.group(None)
            cell.ended[event.call] = CountedCall.count((newest.tally, "failed"))
        elif ended is not None and ended.group_end == "done":
            (calls, end), (group, _) = ended.counted
            ended.uncount()
            cell.ended[event.call] = CountedCall.count((calls, end), (group, "failed"))

    def _count_tool(self, event: ToolStarted | ToolEnded) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        place = SubcallPlace.parse(event.call)
        for tally in (self.tools, node.cell(f"{place.turn}.{place.cell}", event.at_s).tools):
            if isinstance(event, ToolStarted):
                tally.running += 1
            else:
                tally.running -= 1
                tally.count("cancelled" if event.interrupted else "failed" if event.failure else "done")

    def _close_call(self, call_id: CallId) -> _OpenCall | None:
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

    def _cancel(self, call_ids: list[CallId]) -> None:
        for call_id in call_ids:
            call = self._close_call(call_id)
            for tally in call.tallies if call else ():
                tally.cancelled += 1

    # Cells.

    def _start_cell(self, event: CellStarted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        self._continue_node(node)
        node.activity = "executing"
        node.cells.append(CellProgress(event.cell.name, _identifying_line(event.cell.code), event.at_s))

    def _end_cell(self, event: CellExecuted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        cell = node.cell(event.cell.name, event.at_s)
        cell.ended_s, cell.end = event.at_s, event.result.end
        cell.ended = {call_id: ended for call_id, ended in cell.ended.items() if ended.group_end != "done"}
        cell.error = event.result.error[:MAX_TEXT_CHARS] if event.result.error else None
        node.activity = "reading"

    # Nodes.

    def _start_node(self, event: NodeStarted) -> None:
        parent = self._nodes.get(event.parent) if event.parent is not None else None
        group = parent.cell(None, event.at_s).group(event.batch) if parent else None
        node = NodeProgress(
            id=event.node,
            depth=event.depth,
            model=event.model,
            question=event.question[:MAX_TEXT_CHARS],
            context=event.context[:MAX_TEXT_CHARS],
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

    def _finish_node(self, event: NodeFinished) -> None:
        node = self._nodes.get(event.node)
        if node is None or node.status is not None:
            return
        node.error = event.error[:MAX_TEXT_CHARS] if event.error else None
        node.turn = event.turns  # of this question; turns are numbered through in a session
        self._end_node(node, event.status, event.at_s)

    def _end_node(self, node: NodeProgress, status: Status, at_s: float) -> None:
        if node.open_calls:
            self._cancel([call_id for call_id, call in self._open.items() if call.node is node])
        node.activity, node.status, node.ended_s = "finished", status, at_s
        for cell in node.cells:
            if cell.end is None:
                cell.ended_s, cell.end, cell.cut = at_s, "interrupted", True
        if node is not self.root:
            node.cells.clear()
        for tally in (self.nodes, *node.tallies):
            tally.running -= 1
            _count_node(tally, node, 1)

    def _continue_node(self, node: NodeProgress) -> None:
        """Reopens a node that does more after its end."""
        if node.status is None:
            return
        for tally in (self.nodes, *node.tallies):
            _count_node(tally, node, -1)
            tally.running += 1
        node.activity, node.status, node.ended_s, node.error = "starting", None, None, None
        for cell in node.cells:
            if cell.cut:
                cell.reopen()

    # Superseded work.

    def _drop(self, event: Superseded) -> None:
        """Drops superseded work. Its replies stay counted among all calls, because they were paid for."""
        node = self._nodes.get(event.node)
        if node is None:
            return
        if event.from_turn is not None:
            for turn in [turn for turn in node.unanswered if turn >= event.from_turn]:
                node.unanswered.pop(turn).uncount()
        dropped = {f"{turn}.{number}" for turn, number in event.cells}
        for cell in [cell for cell in node.cells if cell.name in dropped]:
            node.cells.remove(cell)
            self._end_children(cell)
        reopened = {f"{turn}.{number}" for turn, number in event.results}
        for cell in node.cells:
            if cell.name in reopened:
                cell.reopen()
        for call_id in event.calls:
            self._drop_call(node, call_id)

    def _drop_call(self, node: NodeProgress, call_id: CallId) -> None:
        child = self._nodes.get(NodeId(call_id))
        if child is not None and child.group is not None and child in child.group.children:  # not superseded before
            self._end_superseded(child)
            _count_node(child.group.tally, child, -1)
            child.group.children.remove(child)
            return
        for cell in reversed(node.cells):
            if (ended := cell.ended.pop(call_id, None)) is not None:
                ended.uncount(self.calls)
                return

    def _end_children(self, cell: CellProgress) -> None:
        for child in cell.children:
            self._end_superseded(child)

    def _end_superseded(self, node: NodeProgress) -> None:
        """Ends a node that is superseded, with all nodes below it."""
        for cell in node.cells:
            self._end_children(cell)
        if node.status is None:
            self._end_node(node, "cancelled", self.at_s)


def _count_node(tally: Tally, node: NodeProgress, by: int) -> None:
    if node.end is not None:
        tally.count(node.end, by)


def _identifying_line(code: str) -> str:
    """The first line that is neither empty nor a comment: readers recognise a cell by it."""
    first = ""
    for line in _lines(code[: MAX_TEXT_CHARS * 10]):
        first = first or line
        if not line.startswith("#"):
            return line[:MAX_TEXT_CHARS]
    return first[:MAX_TEXT_CHARS]


def _lines(code: str) -> Iterator[str]:
    return (line.strip() for line in code.splitlines() if line.strip())
