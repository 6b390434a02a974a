"""What a run did, arranged so that it can be done again: a fold over events, like the tree.

A node's turns are found by their number; what its cells asked for by place *and content*: the hash of a sub-call, and which of
the equal ones of its cell it is. Order of arrival decides nothing, because threads and event loops give none that lasts.
Nothing here executes or compares anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rlm.core.cells import Cell, CellResult
from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallReplied,
    CallStarted,
    CellExecuted,
    CellStarted,
    NodeStarted,
    RunReopened,
    SubcallEnded,
)
from rlm.core.ids import ROOT, CallId, NodeId, SubcallPlace, number_in_cell
from rlm.core.messages import Reply, Request

LOST = "Lost"
"""The error of a call whose process ended while it was in flight."""

NOT_OUTCOMES = frozenset({LOST, "CancelledError"})


@dataclass(slots=True)
class RecordedTurn:
    """A turn that was asked for; ``reply`` and ``failure`` are both None while nothing came of it.

    ``limit`` is what made it the node's last.
    """

    request: Request
    model: str
    limit: str | None = None
    reply: Reply | None = None
    failure: CallFailed | None = None


@dataclass(slots=True)
class RecordedCall:
    """A sub-call. A plain reply stands in ``reply``, whatever else the cell was told in ``ended``.

    One that was ``prefetched`` was asked, and perhaps answered, before the cell came to it, or it never did.
    ``rank`` is its place in the order in which the cell was answered, -1 while it was not; ``ended_s`` the time of that.
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

    def forget_outcome(self) -> None:
        self.ended, self.rank = None, -1


@dataclass(slots=True)
class RecordedCell:
    """``numbers`` are its sub-calls in the order in which they were begun.

    ``stale``: its turn was made again, and has not come to it: the turn may have written something else.
    """

    cell: Cell
    result: CellResult | None = None
    notice: str = ""
    stale: bool = False
    numbers: dict[int, RecordedCall] = field(default_factory=dict)
    answered: int = 0

    @property
    def last_number(self) -> int:
        return max(self.numbers, default=0)

    def refused(self) -> list[RecordedCall]:
        """Those of its sub-calls that a limit forbade or ended."""
        return [
            call
            for call in self.numbers.values()
            if call.ended is not None and call.ended.failure is not None and call.ended.failure.kind == "BudgetExceeded"
        ]

    def begin(self, number: int, key: str, batch: int | None, prefetched: bool) -> RecordedCall:
        """The sub-call of this number: the one that is known, where it is asked again after its process ended."""
        call = self.numbers.get(number)
        if call is None:
            call = self.numbers[number] = RecordedCall(number, key, batch, prefetched)
        return call

    def rank(self, call: RecordedCall, at_s: float) -> None:
        """The cell is answered."""
        if call.rank < 0:
            call.rank, call.ended_s = self.answered, at_s
            self.answered += 1


@dataclass(slots=True)
class RecordedNode:
    parent: NodeId | None
    turns: dict[int, RecordedTurn] = field(default_factory=dict)
    summaries: dict[int, RecordedTurn] = field(default_factory=dict)
    cells: dict[tuple[int, int], RecordedCell] = field(default_factory=dict)

    def make_again(self, turn: int) -> None:
        """A turn is asked once more, because something differed: nothing that came after it will come again."""
        self.turns = {number: each for number, each in self.turns.items() if number <= turn}
        self.summaries = {number: each for number, each in self.summaries.items() if number <= turn}
        self.cells = {place: cell for place, cell in self.cells.items() if place[0] <= turn}
        for place, cell in self.cells.items():
            cell.stale = cell.stale or place[0] == turn


class History:
    """Folds events. Nodes whose answer their parent has are forgotten, unless ``keep_all``."""

    def __init__(self, *, keep_all: bool = False) -> None:
        self._keep_all = keep_all
        self.nodes: dict[NodeId, RecordedNode] = {}
        self._open: dict[CallId, RecordedTurn | tuple[RecordedCell, RecordedCall]] = {}

    def cell(self, node: NodeId, cell: Cell) -> RecordedCell | None:
        """What is known of a cell, if its code is the same."""
        found = self.nodes[node].cells.get(cell.place) if node in self.nodes else None
        return found if found and found.cell.code == cell.code else None

    def call(self, place: SubcallPlace) -> RecordedCall | None:
        cell = self.nodes[place.node].cells.get((place.turn, place.cell)) if place.node in self.nodes else None
        return cell.numbers.get(place.number) if cell else None

    def note(self, event: AnyEvent) -> None:
        match event:
            case RunReopened(told=told):
                self._reopen(ROOT, told)
            case NodeStarted():
                self.nodes.setdefault(event.node, RecordedNode(event.parent))
                if event.parent is not None:
                    self._begin_call(SubcallPlace.parse(event.node), event.key, event.batch, event.prefetched)
            case CallStarted():
                self._note_start(event)
            case CallReplied():
                self._note_reply(event)
            case CallFailed():
                turn = self._open.pop(event.call, None)
                if isinstance(turn, RecordedTurn) and event.error not in NOT_OUTCOMES:
                    turn.failure = event
            case SubcallEnded():
                self._note_end(event)
            case CellStarted() | CellExecuted():
                self._note_cell(event)
            case _:
                pass

    def _reopen(self, node_id: NodeId, told: str) -> None:
        """Forgets the turn that a limit made a node's last, and all it ran: there is room for more now.

        Where the limit cut its last cell short, that is executed again, and asks for what it was refused. Else it is ``told``.
        """
        node = self.nodes.get(node_id)
        if node is None:
            return
        node.turns = {number: turn for number, turn in node.turns.items() if turn.limit is None}
        answered = max((number for number, turn in node.turns.items() if turn.reply or turn.failure), default=0)
        node.cells = {place: cell for place, cell in node.cells.items() if place[0] <= answered}
        self._forget_children(node_id)
        last = max((place for place, cell in node.cells.items() if cell.result is not None), default=(0, 0))
        if not last[0] == answered > 0:
            return  # it goes on from something else than a cell's output
        cell = node.cells[last]
        refused = cell.refused()
        if refused or (cell.result is not None and cell.result.end == "interrupted"):
            cell.result, cell.notice = None, ""
            for call in refused:
                self._reopen(NodeId(SubcallPlace(node_id, *last, call.number).path), "")
        else:
            cell.notice = told

    def _forget_children(self, parent: NodeId) -> None:
        """Those of cells that are forgotten: another child may come in their place."""
        cells, prefix = self.nodes[parent].cells, f"{parent}/"
        for node in [node for node in self.nodes if node.startswith(prefix)]:
            place = SubcallPlace.parse(prefix + node.removeprefix(prefix).partition("/")[0])
            if (place.turn, place.cell) not in cells:
                del self.nodes[node]

    def _note_cell(self, event: CellStarted | CellExecuted) -> None:
        cells, cell = self._node(event.node).cells, event.cell
        recorded = cells.get(cell.place)
        if recorded is not None and recorded.cell.code != cell.code:  # the turn was made anew
            del cells[cell.place]
            self._forget_children(event.node)
            recorded = None
        if recorded is None:
            recorded = cells[cell.place] = RecordedCell(cell)
        recorded.stale = False
        if isinstance(event, CellExecuted):
            recorded.result, recorded.notice = event.result, event.notice
            for number in event.dropped:
                recorded.numbers.pop(number, None)

    def _note_start(self, event: CallStarted) -> None:
        """A call without a cell is a turn, or the summary before one."""
        node = self._node(event.node)
        if event.cell is None:
            if event.role == "node" and event.turn in node.turns and node.turns[event.turn].reply:
                node.make_again(event.turn)
                self._forget_children(event.node)
            turns = node.turns if event.role == "node" else node.summaries
            self._open[event.call] = turns[event.turn] = RecordedTurn(event.request, event.model, event.limit)
        elif (cell := node.cells.get((event.turn, event.cell))) is not None:
            call = cell.begin(number_in_cell(event.call), event.key, event.batch, event.prefetched)
            call.forget_outcome()  # a failure in a cell that came to no end: it is tried again
            self._open[event.call] = (cell, call)

    def _node(self, node: NodeId) -> RecordedNode:
        known = self.nodes.get(node)
        if known is None:
            known = self.nodes[node] = RecordedNode(None)
        return known

    def _begin_call(
        self, place: SubcallPlace, key: str, batch: int | None, prefetched: bool = False
    ) -> tuple[RecordedCell, RecordedCall] | None:
        cell = self._node(place.node).cells.get((place.turn, place.cell))
        return None if cell is None else (cell, cell.begin(place.number, key, batch, prefetched))

    def _note_reply(self, event: CallReplied) -> None:
        opened = self._open.pop(event.call, None)
        if isinstance(opened, RecordedTurn):
            opened.reply = event.reply
        elif opened is not None:
            cell, call = opened
            call.reply, call.elapsed_s = event.reply, event.elapsed_s
            cell.rank(call, event.at_s)

    def _note_end(self, event: SubcallEnded) -> None:
        # What was refused has not begun in any other event.
        begun = self._begin_call(SubcallPlace.parse(event.call), event.key, None, event.prefetched)
        if begun is not None:
            cell, call = begun
            if call.ended is not None:
                call.forget_outcome()
            call.ended, call.elapsed_s = event, event.elapsed_s
            cell.rank(call, event.at_s)
        if event.failure is None and not self._keep_all:
            self.nodes.pop(NodeId(event.call), None)
