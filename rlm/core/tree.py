"""The tree of a run as data: nodes with their turns, cells and calls. ``tree_builder`` builds it from events."""

from __future__ import annotations

from dataclasses import field

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.events import Status
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import CallRole, Usage
from rlm.core.values import frozen, slotted


@slotted
class CallRecord:
    """One model call.

    Attributes:
        prompt: the newest message. Its middle is left out for leaf calls of a run that made tens of thousands of long ones.
        reply: the text of the reply; None while the call is open, or if it failed.
        error: class name and message of a failure. A call whose reply was of no use has both.
        sent_s: time of the first attempt; None while it waits for a slot, or if it was sent at once.
        cached: the answer came from an earlier run.
        superseded: other work replaced the call; it counts only as cost.
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
        """Adds the cost of one attempt."""
        self.usage = self.usage + usage
        self.cost_usd = None if cost_usd is None else (self.cost_usd or 0.0) + cost_usd


@slotted
class ToolRecord:
    """One execution of a tool.

    Attributes:
        shown: the call as source text, with long arguments cut.
        result: the ``repr`` of the result, cut; None while the call is open, or if it failed.
        error: kind and message of a failure.
        interrupted: it might have taken effect although it has no result.
        superseded: other work replaced the call.
    """

    place: SubcallPlace
    tool: str
    shown: str
    started_s: float
    ended_s: float | None = None
    result: str | None = None
    error: str | None = None
    interrupted: bool = False
    superseded: bool = False

    @property
    def id(self) -> CallId:
        return CallId(self.place.path)


@slotted
class NodeRecord:
    """One node: its task, its work and its answer.

    Attributes:
        calls: its own turns, summaries, and the leaf calls of its cells, in the order in which they started.
        children: its child nodes, in the same order.
        cells: the cells that ended, without superseded ones.
        open_cell: the cell that has started and not ended.
        refused: sub-calls that were never made, each with its error.
        tools: executions of tools by its cells, in the order in which they started.
        superseded: other work replaced the node; it counts only as cost.
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
    tools: list[ToolRecord] = field(default_factory=list)

    @property
    def turns(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "node"]

    @property
    def leaves(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "leaf"]

    def tools_in(self, cell: Cell) -> list[ToolRecord]:
        """The executions of tools by a cell, without superseded ones."""
        return [tool for tool in self.tools if (tool.place.turn, tool.place.cell) == cell.place and not tool.superseded]

    def refused_in(self, cell: Cell) -> list[str]:
        """The errors of those sub-calls of a cell that were never made."""
        return [error for place, error in self.refused.items() if (place.turn, place.cell) == cell.place]

    def calls_by_turn(self) -> list[tuple[CallRecord, list[CallRecord]]]:
        """Each turn with the leaf calls of its cells, and with the summary before it.

        A turn that was asked again is there more than once. The newest has the calls that count, each one its superseded calls.
        """
        turns: list[tuple[CallRecord, list[CallRecord]]] = [(turn, []) for turn in self.turns]
        newest = {turn.turn: calls for turn, calls in turns}
        started: dict[int, list[CallRecord]] = {}
        upcoming = iter(turns)
        for call in self.calls:
            if call.role == "node":
                started[call.turn] = next(upcoming)[1]
            elif turns:
                calls = newest.get(call.turn, turns[-1][1])  # the summary before a turn that has not started has none
                (started.get(call.turn, calls) if call.superseded else calls).append(call)
        return turns

    def walk(self) -> list[NodeRecord]:
        """This node and all below it, parents before children."""
        nodes = [self]
        for child in self.children:
            nodes.extend(child.walk())
        return nodes


@frozen
class Unfinished:
    """The work that a run left undone.

    Attributes:
        refused_calls: calls that a limit forbade since the run was started or last resumed.
        cancelled_calls: calls that ended before their reply.
        nodes: nodes that ended without an answer, or with a partial one.
        cells: interrupted cells, by node and name.
        tools: tool calls that were interrupted. Whether they took effect is unknown, and they are not executed again.
    """

    refused_calls: int = 0
    cancelled_calls: int = 0
    nodes: tuple[NodeId, ...] = ()
    cells: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.refused_calls or self.cancelled_calls or self.nodes or self.cells or self.tools)


def find_unfinished(root: NodeRecord | None, refused_calls: int) -> Unfinished:
    """The work left undone in a tree. ``cells`` are named by node and cell: ``"0:2.1"``."""
    nodes = [node for node in root.walk() if not node.superseded] if root is not None else []
    calls = [call for node in nodes for call in node.calls if not call.superseded]
    return Unfinished(
        refused_calls,
        sum(call.error is not None and call.error.startswith("CancelledError") for call in calls),
        tuple(node.id for node in nodes[1:] if node.status not in ("complete", None)),
        tuple(f"{node.id}:{cell.name}" for node in nodes for cell in _interrupted(node)),
        tuple(tool.shown for node in nodes for tool in node.tools if tool.interrupted and not tool.superseded),
    )


def _interrupted(node: NodeRecord) -> list[Cell]:
    cells = [cell for cell, result in node.cells if result.end == "interrupted"]
    return cells if node.open_cell is None else [*cells, node.open_cell]
