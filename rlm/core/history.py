"""The recorded work of a run, arranged for a resume or a replay: a fold over events, like the tree.

A node's turns are found by number. The sub-calls of a cell are found by their hash, and by their rank among equal ones. The order
of arrival decides nothing, because threads and event loops do not repeat it.
Nothing here executes or compares anything.
"""

from __future__ import annotations

from dataclasses import field
from itertools import islice

from rlm.core.cells import Cell, CellResult
from rlm.core.events import (
    AnswerValidated,
    AnyEvent,
    CallFailed,
    CallReplied,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeFinished,
    NodeStarted,
    RunReopened,
    SubcallEnded,
    Superseded,
    ToolEnded,
    ToolStarted,
)
from rlm.core.ids import ROOT, CallId, NodeId, SubcallPlace, is_subcall, number_in_cell
from rlm.core.messages import Reply, Request
from rlm.core.undone import UndoneSubcalls
from rlm.core.values import slotted

LOST = "Lost"
"""The error of a call that was in flight when its process ended."""

NOT_OUTCOMES = frozenset({LOST, "CancelledError"})
"""Errors of calls that were cut off: they say nothing about the model's answer."""


@slotted
class RecordedTurn:
    """A turn that was asked for. ``reply`` and ``failure`` are both None while it has no outcome.

    ``limit`` is the limit that made it the node's last turn.
    """

    request: Request
    model: str
    limit: str | None = None
    reply: Reply | None = None
    failure: CallFailed | None = None

    @property
    def has_outcome(self) -> bool:
        return self.reply is not None or self.failure is not None


@slotted
class RecordedCall:
    """A sub-call. A plain reply is in ``reply``, the outcome of a tool in ``returned``, any other outcome in ``ended``.

    A ``prefetched`` call was asked before its cell reached it. Perhaps the cell never did.
    ``tool`` is the last start of a tool's execution, ``returned`` the end of that.
    ``rank`` is its place in the order of answers to the cell, -1 while it has none; ``ended_s`` is the time of its answer.
    """

    number: int
    key: str
    batch: int | None = None
    prefetched: bool = False
    reply: Reply | None = None
    ended: SubcallEnded | None = None
    rank: int = -1
    ended_s: float = 0.0
    elapsed_s: float = 0.0
    tool: ToolStarted | None = None
    returned: ToolEnded | None = None

    @property
    def tool_outcome(self) -> ToolEnded | None:
        """The end of a tool's execution, unless it was interrupted."""
        return None if self.returned is None or self.returned.interrupted else self.returned

    @property
    def was_refused(self) -> bool:
        """A limit forbade or ended it."""
        failure = None if self.ended is None else self.ended.failure
        return failure is not None and failure.kind == "BudgetExceeded"


@slotted
class RecordedCell:
    """A cell with its sub-calls in ``numbers``, in the order in which they started.

    ``unconfirmed``: its turn was asked again, and the new reply has not written this cell yet.
    """

    cell: Cell
    result: CellResult | None = None
    notice: str = ""
    unconfirmed: bool = False
    numbers: dict[int, RecordedCall] = field(default_factory=dict)
    answered: int = 0

    @property
    def last_number(self) -> int:
        return max(self.numbers, default=0)

    def start(self, number: int, key: str, batch: int | None, prefetched: bool) -> RecordedCall:
        """The sub-call of this number; a known one if it is already recorded."""
        call = self.numbers.get(number)
        if call is None:
            call = self.numbers[number] = RecordedCall(number, key, batch, prefetched)
        return call

    def rank(self, call: RecordedCall, at_s: float) -> None:
        """Notes that the cell got this answer next."""
        if call.rank < 0:
            call.rank, call.ended_s = self.answered, at_s
            self.answered += 1


@slotted
class RecordedNode:
    parent: NodeId | None
    turns: dict[int, RecordedTurn] = field(default_factory=dict)
    summaries: dict[int, RecordedTurn] = field(default_factory=dict)
    cells: dict[tuple[int, int], RecordedCell] = field(default_factory=dict)
    answers: dict[int, AnswerValidated] = field(default_factory=dict)

    @property
    def last_finished_cell(self) -> tuple[int, int] | None:
        return max((place for place, cell in self.cells.items() if cell.result is not None), default=None)

    def drop_turns(self, from_turn: int) -> None:
        """Drops turns from this number on. The cells of that turn stay until its new reply writes or omits them."""
        self.turns = {number: turn for number, turn in self.turns.items() if number < from_turn}
        self.answers = {number: answer for number, answer in self.answers.items() if number < from_turn}
        self.summaries = {number: summary for number, summary in self.summaries.items() if number <= from_turn}
        for place, cell in self.cells.items():
            cell.unconfirmed = cell.unconfirmed or place[0] == from_turn


class History:
    """Folds events. Nodes whose parent has their answer are forgotten, unless ``keep_all`` or sub-calls of theirs are undone."""

    def __init__(self, *, keep_all: bool = False) -> None:
        self._keep_all = keep_all
        self.undone = UndoneSubcalls()
        self.nodes: dict[NodeId, RecordedNode] = {}
        self._open: dict[CallId, RecordedTurn | tuple[RecordedCell, RecordedCall]] = {}

    def cell(self, node: NodeId, cell: Cell) -> RecordedCell | None:
        """The recording of a cell, if its code is the same."""
        recorded = self.nodes[node].cells.get(cell.place) if node in self.nodes else None
        return recorded if recorded and recorded.cell.code == cell.code else None

    def call(self, place: SubcallPlace) -> RecordedCall | None:
        cell = self.nodes[place.node].cells.get((place.turn, place.cell)) if place.node in self.nodes else None
        return cell.numbers.get(place.number) if cell else None

    def note(self, event: AnyEvent) -> None:
        match event:
            case CallStarted():
                self._note_start(event)
            case CallReplied():
                self._note_reply(event)
            case NodeStarted():
                self.nodes.setdefault(event.node, RecordedNode(event.parent))
                if event.parent is not None:
                    self._start_call(SubcallPlace.parse(event.node), event.key, event.batch, event.prefetched)
            case CallFailed():
                turn = self._open.pop(event.call, None)
                if isinstance(turn, RecordedTurn) and event.error not in NOT_OUTCOMES:
                    turn.failure = event
            case SubcallEnded() | ToolStarted() | ToolEnded():
                self._note_end(event)
            case CellStarted():
                self._node(event.node).cells[event.cell.place] = RecordedCell(event.cell)
            case CellExecuted():
                recorded = self._node(event.node).cells.setdefault(event.cell.place, RecordedCell(event.cell))
                recorded.result, recorded.notice, recorded.unconfirmed = event.result, event.notice, False
                self._note_prefetched(recorded)
            case _:
                self._note_change(event)

    def _note_change(self, event: AnyEvent) -> None:
        match event:
            case AnswerValidated():
                self._node(event.node).answers[event.turn] = event
            case Superseded():
                self._drop(event)
            case NodeFinished() if event.node != ROOT:
                self.undone.note_child(event)
            case RunReopened():
                self.undone.accept(self._has_result)
                if event.notice is not None:
                    self._show_notice(event.notice)
            case _:
                pass

    def _drop(self, event: Superseded) -> None:
        self.undone.drop(event)
        node = self.nodes.get(event.node)
        if node is None:
            return
        if node.parent is not None and (event.from_turn is not None or event.results):
            self._drop_answer(event.node)
        if event.from_turn is not None:
            node.drop_turns(event.from_turn)
        for place in event.cells:
            node.cells.pop(place, None)
        if event.cells:
            self._drop_orphans(event.node)
        for place in event.results:
            if (cell := node.cells.get(place)) is not None:
                cell.result, cell.notice = None, ""
        for call in event.calls:
            if is_subcall(call):
                self._drop_call(node, call)

    def _drop_answer(self, child: NodeId) -> None:
        """Drops the answer of a child that goes on."""
        if (call := self.call(SubcallPlace.parse(child))) is not None:
            call.ended, call.rank = None, -1

    def _drop_call(self, node: RecordedNode, call: CallId) -> None:
        place = SubcallPlace.parse(call)
        if (cell := node.cells.get((place.turn, place.cell))) is not None:
            cell.numbers.pop(place.number, None)
        child = NodeId(call)
        if child in self.nodes:
            for node_id in [node_id for node_id in self.nodes if node_id == child or node_id.startswith(f"{child}/")]:
                del self.nodes[node_id]

    def _drop_orphans(self, parent: NodeId) -> None:
        """Drops the nodes below cells that are gone: other children can take their places."""
        cells, prefix = self.nodes[parent].cells, f"{parent}/"
        for node in [node for node in self.nodes if node.startswith(prefix)]:
            place = SubcallPlace.parse(prefix + node.removeprefix(prefix).partition("/")[0])
            if (place.turn, place.cell) not in cells:
                del self.nodes[node]
                self.undone.drop_node(node)

    def _has_result(self, place: SubcallPlace) -> bool:
        cell = self.nodes[place.node].cells.get((place.turn, place.cell)) if place.node in self.nodes else None
        return cell is None or cell.result is not None

    def _show_notice(self, notice: str) -> None:
        root = self.nodes.get(ROOT)
        if root is not None and (place := root.last_finished_cell) is not None:
            root.cells[place].notice = notice

    def _note_start(self, event: CallStarted) -> None:
        """Notes a call. One without a cell is a turn, or the summary before a turn."""
        node = self._node(event.node)
        if event.cell is None:
            turns = node.turns if event.role == "node" else node.summaries
            self._open[event.call] = turns[event.turn] = RecordedTurn(event.request, event.model, event.limit)
        elif (cell := node.cells.get((event.turn, event.cell))) is not None:
            call = cell.start(number_in_cell(event.call), event.key, event.batch, event.prefetched)
            self._open[event.call] = (cell, call)

    def _node(self, node: NodeId) -> RecordedNode:
        recorded = self.nodes.get(node)
        if recorded is None:
            recorded = self.nodes[node] = RecordedNode(None)
        return recorded

    def _start_call(
        self, place: SubcallPlace, key: str, batch: int | None, prefetched: bool = False
    ) -> tuple[RecordedCell, RecordedCall] | None:
        cell = self._node(place.node).cells.get((place.turn, place.cell))
        return None if cell is None else (cell, cell.start(place.number, key, batch, prefetched))

    def _note_reply(self, event: CallReplied) -> None:
        opened = self._open.pop(event.call, None)
        if isinstance(opened, RecordedTurn):
            opened.reply = event.reply
        elif opened is not None:
            cell, call = opened
            self.undone.note_answer(event.node, call.key)
            call.reply, call.elapsed_s = event.reply, event.elapsed_s
            cell.rank(call, event.at_s)

    def _note_tool(self, event: ToolStarted | ToolEnded) -> None:
        place = SubcallPlace.parse(event.call)
        if isinstance(event, ToolStarted):
            if (started := self._start_call(place, event.key, None)) is not None:
                started[1].tool, started[1].returned = event, None
            return
        cell = self._node(place.node).cells.get((place.turn, place.cell))
        call = cell.numbers.get(place.number) if cell is not None else None
        if cell is not None and call is not None:
            call.returned, call.elapsed_s = event, event.elapsed_s
            if not event.interrupted:
                cell.rank(call, event.at_s)

    def _note_end(self, event: SubcallEnded | ToolStarted | ToolEnded) -> None:
        if not isinstance(event, SubcallEnded):
            self._note_tool(event)
            return
        # A sub-call that was refused has no other event.
        started = self._start_call(SubcallPlace.parse(event.call), event.key, None, event.prefetched)
        if started is not None:
            cell, call = started
            if call.ended is not None:  # a child that had failed went on, and ended again
                call.rank = -1
            call.ended, call.elapsed_s = event, event.elapsed_s
            cell.rank(call, event.at_s)
        if not event.prefetched:
            self.undone.note_ended(event)
        if event.failure is None:
            self.undone.note_answer(event.node, event.key)
            if not self._keep_all and not self.undone.is_below(NodeId(event.call)):
                self.nodes.pop(NodeId(event.call), None)

    def _note_prefetched(self, cell: RecordedCell) -> None:
        """Notes the refusals of those prefetched sub-calls that a finished cell has reached."""
        used = 0 if cell.result is None else cell.result.prefetches_used
        if not used:
            return
        prefetched = (call for _, call in sorted(cell.numbers.items()) if call.prefetched)
        for call in islice(prefetched, used):
            if call.ended is not None and call.was_refused:
                self.undone.note_ended(call.ended)
