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
    SubcallEnded,
)
from rlm.core.ids import ROOT, CallId, NodeId, SubcallPlace, is_turn
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


@dataclass(slots=True)
class RecordedCell:
    cell: Cell
    result: CellResult | None = None
    notice: str = ""
    calls: dict[str, list[RecordedCall]] = field(default_factory=dict)
    numbers: dict[int, RecordedCall] = field(default_factory=dict)
    answered: int = 0

    @property
    def last_number(self) -> int:
        return max(self.numbers, default=0)


@dataclass(slots=True)
class RecordedNode:
    parent: NodeId | None
    turns: dict[int, RecordedTurn] = field(default_factory=dict)
    summaries: dict[int, RecordedTurn] = field(default_factory=dict)
    cells: dict[tuple[int, int], RecordedCell] = field(default_factory=dict)


class History:
    """Folds events. Nodes whose answer their parent has are forgotten, unless ``keep_all``."""

    def __init__(self, *, keep_all: bool = False) -> None:
        self._keep_all = keep_all
        self.nodes: dict[NodeId, RecordedNode] = {}
        self._open_turns: dict[CallId, RecordedTurn] = {}

    def cell(self, node: NodeId, cell: Cell) -> RecordedCell | None:
        """What is known of a cell, if its code is the same."""
        found = self.nodes[node].cells.get((cell.turn, cell.number)) if node in self.nodes else None
        return found if found and found.cell.code == cell.code else None

    def call(self, place: SubcallPlace) -> RecordedCall | None:
        cell = self.nodes[place.node].cells.get((place.turn, place.cell)) if place.node in self.nodes else None
        return cell.numbers.get(place.number) if cell else None

    def reopen(self) -> None:
        """Forgets the last turn that a limit made the root take: there is room for more now."""
        root = self.nodes.get(ROOT)
        if root is not None:
            root.turns = {number: turn for number, turn in root.turns.items() if turn.limit is None}

    def note(self, event: AnyEvent) -> None:
        match event:
            case NodeStarted():
                self.nodes.setdefault(event.node, RecordedNode(event.parent))
                if event.parent is not None:
                    self._begin_call(SubcallPlace.parse(event.node), event.key, event.batch, event.prefetched)
            case CallStarted():
                if event.cell is None:
                    made = self._turns(event)[event.turn] = RecordedTurn(event.request, event.limit)
                    self._open_turns[event.call] = made
                else:
                    self._begin_call(SubcallPlace.parse(event.call), event.key, event.batch, event.prefetched)
            case CallReplied():
                self._note_reply(event)
            case CallFailed():
                turn = self._open_turns.pop(event.call, None)
                if turn is not None and event.error not in NOT_OUTCOMES:
                    turn.failure = event
            case SubcallEnded():
                self._note_end(event)
            case CellStarted(cell=cell):
                self._node(event.node).cells.setdefault((cell.turn, cell.number), RecordedCell(cell))
            case CellExecuted(cell=cell):
                cells = self._node(event.node).cells
                recorded = cells.setdefault((cell.turn, cell.number), RecordedCell(cell))
                recorded.result, recorded.notice = event.result, event.notice
            case _:
                pass

    def _turns(self, call: CallStarted) -> dict[int, RecordedTurn]:
        """A call without a cell is a turn, or the summary before one."""
        node = self._node(call.node)
        return node.turns if call.role == "node" else node.summaries

    def _node(self, node: NodeId) -> RecordedNode:
        return self.nodes.setdefault(node, RecordedNode(None))

    def _begin_call(self, place: SubcallPlace, key: str, batch: int | None, prefetched: bool = False) -> None:
        cell = self._node(place.node).cells.get((place.turn, place.cell))
        if cell is None or place.number in cell.numbers:  # asked again after its process ended
            return
        call = RecordedCall(place.number, key, batch, prefetched)
        cell.numbers[place.number] = call
        cell.calls.setdefault(key, []).append(call)

    def _note_reply(self, event: CallReplied) -> None:
        turn = self._open_turns.pop(event.call, None)
        if turn is not None:
            turn.reply = event.reply
        if is_turn(event.call):
            return
        place = SubcallPlace.parse(event.call)
        call = self.call(place)
        if call is not None:
            call.reply, call.elapsed_s = event.reply, event.elapsed_s
            self._rank(place, call, event.at_s)

    def _note_end(self, event: SubcallEnded) -> None:
        place = SubcallPlace.parse(event.call)
        # What was refused has not begun in any other event.
        self._begin_call(place, event.key, None, event.prefetched)
        call = self.call(place)
        if call is not None:
            call.ended, call.elapsed_s = event, event.elapsed_s
            self._rank(place, call, event.at_s)
        if event.failure is None and not self._keep_all:
            self.nodes.pop(NodeId(event.call), None)

    def _rank(self, place: SubcallPlace, call: RecordedCall, at_s: float) -> None:
        cell = self.nodes[place.node].cells[place.turn, place.cell]
        if call.rank < 0:
            call.rank, call.ended_s = cell.answered, at_s
            cell.answered += 1
