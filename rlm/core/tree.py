"""The tree of a run as data: nodes, their turns, cells and calls. ``growth`` makes it from events."""

from __future__ import annotations

from dataclasses import dataclass, field

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.events import Status
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import CallRole, Usage


@dataclass(slots=True)
class CallRecord:
    """One model call. ``error`` is the class name and message of a failed one, which may have a reply that was of no use; both
    it and ``reply`` are None while open.

    ``prompt`` is the newest message, of leaf calls without its middle once a run has made tens of thousands of long ones.
    ``sent_s`` is when it first left, None while it waits for a slot or where it left at once. ``cached``: the answer came from
    an earlier run. ``superseded``: it was made again in a run that was taken up, or what had asked for it was; it counts as cost.
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
    superseded: bool = False

    def bill(self, usage: Usage, cost_usd: float | None) -> None:
        """Adds what one of its attempts did cost."""
        self.usage = self.usage + usage
        self.cost_usd = None if cost_usd is None else (self.cost_usd or 0.0) + cost_usd


@dataclass(slots=True)
class NodeRecord:
    """One node: what it was asked, what it ran, and what came of it.

    ``calls`` are its own turns and the leaf calls its cells made, in the order they began; ``children`` likewise. ``cells`` are
    those that count and have ended: one that a run executed anew when it was taken up stands there once. ``open_cell`` has begun
    and not ended. ``refused`` are sub-calls that were never made, each with its error. ``superseded``: as of calls.
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
    open_cell: Cell | None = None
    refused: dict[SubcallPlace, str] = field(default_factory=dict)
    superseded: bool = False

    @property
    def turns(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "node"]

    @property
    def leaves(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "leaf"]

    def refused_in(self, cell: Cell) -> list[str]:
        """The errors of a cell's sub-calls that were never made."""
        return [error for place, error in self.refused.items() if (place.turn, place.cell) == cell.place]

    def calls_by_turn(self) -> list[tuple[CallRecord, list[CallRecord]]]:
        """Each turn with the leaf calls of its cells, and with the summary that was made before it.

        A turn that was asked again stands there more than once: the newest with all that counts, each with what of it does not.
        """
        turns: list[tuple[CallRecord, list[CallRecord]]] = [(turn, []) for turn in self.turns]
        newest = {turn.turn: called for turn, called in turns}
        begun: dict[int, list[CallRecord]] = {}
        coming = iter(turns)
        for call in self.calls:
            if call.role == "node":
                begun[call.turn] = next(coming)[1]
            elif turns:
                called = newest.get(call.turn, turns[-1][1])  # else it is the summary before a turn that has not begun
                (begun.get(call.turn, called) if call.superseded else called).append(call)
        return turns

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
        refused_calls: were never sent, because a limit forbade them since the run was begun or last taken up.
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
    nodes = [node for node in root.walk() if not node.superseded] if root is not None else []
    calls = [call for node in nodes for call in node.calls if not call.superseded]
    return Unfinished(
        refused_calls,
        sum(call.error is not None and call.error.startswith("CancelledError") for call in calls),
        tuple(node.id for node in nodes[1:] if node.status not in ("complete", None)),
        tuple(f"{node.id}:{cell.name}" for node in nodes for cell in _interrupted(node)),
    )


def _interrupted(node: NodeRecord) -> list[Cell]:
    cells = [cell for cell, result in node.cells if result.end == "interrupted"]
    return cells if node.open_cell is None else [*cells, node.open_cell]
