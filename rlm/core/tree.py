"""The tree of a run as data: nodes, their turns and calls. A fold over the run's events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
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
    CellStarted,
    NodeFinished,
    NodeStarted,
    RunReopened,
    Status,
)
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.messages import CallRole, Usage
from rlm.core.observations import cut_middle

KEPT_PROMPT_CHARS = 32_000_000  # of leaf calls in one tree, as a whole; the journal has them all
CUT_PROMPT_CHARS = 600  # of each that comes when so many are kept: a generator may yield gigabytes


@dataclass(slots=True)
class CallRecord:
    """One model call. ``error`` is the class name and message of a failed one; both it and ``reply`` are None while open.

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
    those that count: a cell that a run executed anew when it was taken up stands there once. ``superseded``: as of calls.
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
    superseded: bool = False

    @property
    def turns(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "node"]

    @property
    def leaves(self) -> list[CallRecord]:
        return [call for call in self.calls if call.role == "leaf"]

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
    nodes = [node for node in root.walk() if not node.superseded] if root is not None else []
    calls = [call for node in nodes for call in node.calls if not call.superseded]
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
        self._codes: dict[tuple[NodeId, int, int], str] = {}
        self._last_turns: set[CallId] = set()
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
            case CellStarted():
                self._begin_cell(event)
            case CellExecuted():
                self._add_cell(event)
            case NodeFinished():
                node = self.nodes[event.node]
                node.ended_s, node.status = event.at_s, event.status
                node.answer, node.error = event.answer, event.error
            case RunReopened():
                self._reopen(event.node)
            case _:
                pass

    def _add_node(self, event: NodeStarted) -> None:
        if (before := self.nodes.get(event.node)) is not None:
            _supersede(before)
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
        node = self.nodes[event.node]
        if event.call in self.calls:
            self._make_again(node, event)
        if event.limit is not None:
            self._last_turns.add(event.call)
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
        node.calls.append(record)

    def _make_again(self, node: NodeRecord, event: CallStarted) -> None:
        """A call that is on record is made once more: in its place, and a turn in that of those after it, too."""
        self.calls[event.call].superseded = True
        if event.role == "node":
            self._last_turns.discard(event.call)
            for turn in node.turns:
                turn.superseded = turn.superseded or turn.turn >= event.turn

    def _begin_cell(self, event: CellStarted) -> None:
        cell = event.cell
        place = (event.node, cell.turn, cell.number)
        if self._codes.get(place, cell.code) != cell.code:  # the turn was asked again, and wrote another
            _supersede_cells(self.nodes[event.node], lambda turn, number: (turn, number) == (cell.turn, cell.number))
        self._codes[place] = cell.code

    def _add_cell(self, event: CellExecuted) -> None:
        node, cell = self.nodes[event.node], event.cell
        for number in event.dropped:
            path = SubcallPlace(event.node, cell.turn, cell.number, number).path
            if (call := self.calls.get(CallId(path))) is not None:
                call.superseded = True
            if (child := self.nodes.get(NodeId(path))) is not None:
                _supersede(child)
        at = bisect_left(node.cells, (cell.turn, cell.number), key=lambda each: (each[0].turn, each[0].number))
        again = at < len(node.cells) and node.cells[at][0].name == cell.name
        node.cells[at : at + again] = [(cell, event.result)]

    def _reopen(self, root: NodeId) -> None:
        """What a limit had made the root's last turn counts no more, nor anything that came of it."""
        node = self.nodes[root]
        for turn in node.turns:
            turn.superseded = turn.superseded or turn.id in self._last_turns
        kept = {turn.turn for turn in node.turns if not turn.superseded}
        _supersede_cells(node, lambda turn, _: turn not in kept)


def _supersede(node: NodeRecord) -> None:
    for each in node.walk():
        each.superseded = True
        for call in each.calls:
            call.superseded = True


def _supersede_cells(node: NodeRecord, concerns: Callable[[int, int], bool]) -> None:
    """Those cells of a node, by their turns and numbers: they are gone, and what they had called counts no more."""
    node.cells = [each for each in node.cells if not concerns(each[0].turn, each[0].number)]
    for call in node.leaves:
        if call.cell is not None and concerns(call.turn, call.cell):
            call.superseded = True
    for child in node.children:
        place = SubcallPlace.parse(child.id)
        if concerns(place.turn, place.cell):
            _supersede(child)
