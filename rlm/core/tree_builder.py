"""How a tree grows: a fold over the events of a run, also of one that was taken up, where things are done again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

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
    RunResumed,
    SubcallEnded,
)
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.observations import cut_middle
from rlm.core.subcalls import SubcallFailure
from rlm.core.tree import CallRecord, NodeRecord

KEPT_PROMPT_CHARS = 32_000_000  # of leaf calls in one tree, as a whole; the journal has them all
CUT_PROMPT_CHARS = 600  # of each that comes when so many are kept: a generator may yield gigabytes


class TreeBuilder:
    """Folds events into records; ``root`` is None until the first node has started."""

    def __init__(self) -> None:
        self.root: NodeRecord | None = None
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.calls: dict[CallId, CallRecord] = {}
        self._codes: dict[tuple[NodeId, int, int], str] = {}
        self._last_turns: set[CallId] = set()
        # Cells of a turn that is made again, until it writes them.
        self._in_doubt: dict[NodeId, set[tuple[int, int]]] = {}
        self._prompt_chars = 0

    def add(self, event: AnyEvent) -> None:
        match event:
            case NodeStarted():
                self._add_node(event)
            case CallStarted():
                self._add_call(event)
            case CallSent() | CallReplied() | CallFailed() | CallBilled():
                self._note_call(self.calls[event.call], event)
            case SubcallEnded(failure=SubcallFailure() as failure):
                self._add_failure(event, f"{failure.kind}: {failure.message}")
            case CellStarted():
                self._begin_cell(event)
            case CellExecuted():
                self._add_cell(event)
            case NodeFinished():
                node = self.nodes[event.node]
                self._give_up(node)
                node.ended_s, node.status = event.at_s, event.status
                node.answer, node.error = event.answer, event.error
            case RunResumed() if self.root is not None:  # else the run was stopped before it had one
                self._go_on(self.root)
            case RunReopened() if self.root is not None:
                self._reopen(self.root)
            case _:
                pass

    def _note_call(self, call: CallRecord, event: CallSent | CallReplied | CallFailed | CallBilled) -> None:
        match event:
            case CallSent():
                call.sent_s = event.at_s if call.sent_s is None else call.sent_s
            case CallReplied():
                call.ended_s, call.reply, call.cached = event.at_s, event.reply.text, event.cached
                call.bill(event.reply.usage, event.cost_usd)
            case CallFailed():
                call.ended_s, call.error = event.at_s, f"{event.error}: {event.message}"
            case CallBilled():
                call.bill(event.usage, event.cost_usd)

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
            parent = self.nodes[event.parent]
            parent.children.append(record)
            if parent.refused:
                parent.refused.pop(SubcallPlace.parse(event.node), None)

    def _kept_prompt(self, event: CallStarted) -> str:
        prompt = event.request.messages[-1].content
        if event.role == "leaf":
            self._prompt_chars += len(prompt)
            if self._prompt_chars > KEPT_PROMPT_CHARS:
                return cut_middle(prompt, CUT_PROMPT_CHARS)
        return prompt

    def _add_call(self, event: CallStarted) -> None:
        node = self.nodes[event.node]
        if event.role == "node":
            self._give_up(node)
        if event.call in self.calls:
            self._make_again(node, event)
        if event.limit is not None:
            self._last_turns.add(event.call)
        if node.refused and event.cell is not None:
            node.refused.pop(SubcallPlace.parse(event.call), None)
        self._go_on(node)
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
        """A call that is on record is made once more: in its place, and a turn in that of all that came after it, too."""
        before = self.calls[event.call]
        before.superseded = True
        if event.role == "node":
            self._last_turns.discard(event.call)
            for turn in node.turns:
                turn.superseded = turn.superseded or turn.turn >= event.turn
            _supersede_cells(node, lambda turn, _: turn > event.turn)
            if before.reply is not None:
                self._in_doubt[node.id] = {cell.place for cell, _ in node.cells if cell.turn == event.turn}

    def _give_up(self, node: NodeRecord) -> None:
        """A turn is over: what only an earlier reply to it had written counts no more."""
        if places := self._in_doubt.pop(node.id, None):
            _supersede_cells(node, lambda turn, number: (turn, number) in places)

    def _go_on(self, node: NodeRecord) -> None:
        """One that had come to an end does more: that was not its end."""
        if node.ended_s is not None:
            node.ended_s = node.status = node.answer = node.error = None

    def _add_failure(self, event: SubcallEnded, error: str) -> None:
        call = self.calls.get(event.call)
        if call is not None:
            call.error = call.error or error  # its reply was of no use
        elif NodeId(event.call) not in self.nodes and not event.prefetched:  # else the cell may never have come to it
            self.nodes[event.node].refused[SubcallPlace.parse(event.call)] = error

    def _begin_cell(self, event: CellStarted) -> None:
        node, cell = self.nodes[event.node], event.cell
        place = (event.node, *cell.place)
        self._in_doubt.get(node.id, set()).discard(cell.place)
        if self._codes.get(place, cell.code) != cell.code:  # the turn was asked again, and wrote another
            _supersede_cells(node, lambda turn, number: (turn, number) == cell.place)
        self._codes[place] = cell.code
        node.open_cell = cell

    def _add_cell(self, event: CellExecuted) -> None:
        node, cell = self.nodes[event.node], event.cell
        self._in_doubt.get(node.id, set()).discard(cell.place)
        for number in event.dropped:
            path = SubcallPlace(event.node, cell.turn, cell.number, number).path
            if (call := self.calls.get(CallId(path))) is not None:
                call.superseded = True
            if (child := self.nodes.get(NodeId(path))) is not None:
                _supersede(child)
        at = bisect_left(node.cells, cell.place, key=lambda each: each[0].place)
        again = at < len(node.cells) and node.cells[at][0].place == cell.place
        node.cells[at : at + again] = [(cell, event.result)]
        node.open_cell = None

    def _reopen(self, node: NodeRecord) -> None:
        """What a limit had made the root's last turn counts no more, nor anything that came of it."""
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
    node.refused = {place: error for place, error in node.refused.items() if not concerns(place.turn, place.cell)}
    if node.open_cell is not None and concerns(node.open_cell.turn, node.open_cell.number):
        node.open_cell = None
    for call in node.leaves:
        if call.cell is not None and concerns(call.turn, call.cell):
            call.superseded = True
    for child in node.children:
        place = SubcallPlace.parse(child.id)
        if concerns(place.turn, place.cell):
            _supersede(child)
