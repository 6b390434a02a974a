"""Builds the tree of a run: a fold over its events."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container

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
    RunResumed,
    SubcallEnded,
    Superseded,
    ToolEnded,
    ToolStarted,
)
from rlm.core.ids import CallId, NodeId, SubcallPlace, is_subcall
from rlm.core.observations import cut_middle
from rlm.core.subcalls import SubcallFailure
from rlm.core.tools import show_call, show_plain
from rlm.core.tree import CallRecord, NodeRecord, ToolRecord

# The prompts of all leaf calls in one tree together; a generator can yield gigabytes. The journal has them whole.
MAX_PROMPT_CHARS = 32_000_000
CUT_PROMPT_CHARS = 600  # the length of each later prompt
MAX_TOOL_CHARS = 2000  # of a tool's arguments, and of its result


class TreeBuilder:
    """Folds events into records; ``root`` is None until the first node has started."""

    def __init__(self) -> None:
        self.root: NodeRecord | None = None
        self.nodes: dict[NodeId, NodeRecord] = {}
        self.calls: dict[CallId, CallRecord] = {}
        self.tools: dict[CallId, ToolRecord] = {}
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
                times = f" ({event.times:,} times)" if event.times > 1 else ""
                self._add_failure(event, f"{failure.kind}: {failure.message}{times}")
            case ToolStarted():
                self._add_tool(event)
            case ToolEnded():
                self._note_tool(event)
            case CellStarted():
                self.nodes[event.node].open_cell = event.cell
            case CellExecuted():
                self._add_cell(event)
            case NodeFinished():
                node = self.nodes[event.node]
                node.ended_s, node.status = event.at_s, event.status
                node.answer, node.error = event.answer, event.error
            case Superseded():
                self._drop(event)
            case RunResumed() if self.root is not None:  # otherwise the run ended before its root started
                _continue_node(self.root)
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
        record = NodeRecord(
            event.node, event.depth, event.model, event.question, event.context, event.at_s, batch=event.batch
        )
        self.nodes[event.node] = record
        if event.parent is None:
            self.root = record
        else:
            self.nodes[event.parent].children.append(record)

    def _shorten_prompt(self, event: CallStarted) -> str:
        prompt = event.request.messages[-1].text
        if event.role == "leaf":
            self._prompt_chars += len(prompt)
            if self._prompt_chars > MAX_PROMPT_CHARS:
                return cut_middle(prompt, CUT_PROMPT_CHARS)
        return prompt

    def _add_call(self, event: CallStarted) -> None:
        node = self.nodes[event.node]
        _continue_node(node)
        record = CallRecord(
            event.call,
            event.role,
            event.depth,
            event.model,
            event.turn,
            event.cell,
            event.batch,
            event.at_s,
            self._shorten_prompt(event),
        )
        self.calls[event.call] = record
        node.calls.append(record)

    def _add_tool(self, event: ToolStarted) -> None:
        shown = show_call(event.tool, event.args, event.kwargs, MAX_TOOL_CHARS)
        record = ToolRecord(SubcallPlace.parse(event.call), event.tool, shown, event.at_s)
        self.tools[event.call] = record
        self.nodes[event.node].tools.append(record)

    def _note_tool(self, event: ToolEnded) -> None:
        record = self.tools[event.call]
        record.ended_s, record.interrupted = event.at_s, event.interrupted
        if event.failure is not None:
            record.error = f"{event.failure.kind}: {event.failure.message}"
        else:
            record.result = show_plain(event.value, MAX_TOOL_CHARS)

    def _add_failure(self, event: SubcallEnded, error: str) -> None:
        call = self.calls.get(event.call)
        if call is not None and not call.superseded:
            call.error = call.error or error  # its reply was of no use
            return
        if event.call in self.tools:
            return
        child = self.nodes.get(NodeId(event.call))
        if (child is None or child.superseded) and not event.prefetched:  # a cell may never reach a prefetched call
            self.nodes[event.node].refused[SubcallPlace.parse(event.call)] = error

    def _add_cell(self, event: CellExecuted) -> None:
        node, cell = self.nodes[event.node], event.cell
        index = bisect_left(node.cells, cell.place, key=lambda item: item[0].place)
        replaces = index < len(node.cells) and node.cells[index][0].place == cell.place
        node.cells[index : index + replaces] = [(cell, event.result)]
        node.open_cell = None

    def _drop(self, event: Superseded) -> None:
        node = self.nodes[event.node]
        if event.from_turn is not None:
            _supersede_turns(node, event.from_turn)
        if event.cells:
            _supersede_cells(node, frozenset(event.cells))
        for place in event.results:
            node.open_cell = next((cell for cell, _ in node.cells if cell.place == place), node.open_cell)
            node.cells = [(cell, result) for cell, result in node.cells if cell.place != place]
        for call_id in event.calls:
            if (call := self.calls.get(call_id)) is not None:
                call.superseded = True
            if (tool := self.tools.get(call_id)) is not None:
                tool.superseded = True
            if (child := self.nodes.get(NodeId(call_id))) is not None:
                _supersede_node(child)
            if node.refused and is_subcall(call_id):
                node.refused.pop(SubcallPlace.parse(call_id), None)


def _continue_node(node: NodeRecord) -> None:
    """Reopens the record of a node that does more after its end."""
    if node.ended_s is not None:
        node.ended_s = node.status = node.answer = node.error = None


def _supersede_node(node: NodeRecord) -> None:
    for descendant in node.walk():
        descendant.superseded = True
        for call in descendant.calls:
            call.superseded = True
        for tool in descendant.tools:
            tool.superseded = True


def _supersede_turns(node: NodeRecord, from_turn: int) -> None:
    """Supersedes turns from a number on, and the summaries before later ones."""
    for call in node.calls:
        if call.cell is None and (call.turn > from_turn or (call.turn == from_turn and call.role == "node")):
            call.superseded = True


def _supersede_cells(node: NodeRecord, places: Container[tuple[int, int]]) -> None:
    """Removes cells, and supersedes everything that they asked for."""
    node.cells = [(cell, result) for cell, result in node.cells if cell.place not in places]
    node.refused = {place: error for place, error in node.refused.items() if (place.turn, place.cell) not in places}
    if node.open_cell is not None and node.open_cell.place in places:
        node.open_cell = None
    for call in node.leaves:
        if call.cell is not None and (call.turn, call.cell) in places:
            call.superseded = True
    for tool in node.tools:
        if (tool.place.turn, tool.place.cell) in places:
            tool.superseded = True
    for child in node.children:
        place = SubcallPlace.parse(child.id)
        if (place.turn, place.cell) in places:
            _supersede_node(child)
