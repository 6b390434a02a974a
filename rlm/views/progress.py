"""What a run is doing now: a fold over its events into counts, small enough for any number of calls.

Pure: no drawing, no clock, no locks; whoever feeds it does so from one thread. Texts are kept as they came (cut, never
cleaned): making them fit for a screen is the drawer's business. A run that is taken up goes on where it stood: what is made
again takes the place of what was cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

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
    RunReopened,
    RunResumed,
    RunStarted,
    Status,
    SubcallEnded,
)
from rlm.core.history import NOT_OUTCOMES
from rlm.core.ids import CallId, NodeId, SubcallPlace
from rlm.core.subcalls import SubcallFailure
from rlm.core.usage import Spend
from rlm.views.state import KEPT_CHARS, End, EndedCall, Group, NodeProgress, Step, Tally


@dataclass(slots=True)
class _OpenCall:
    node: NodeProgress
    tallies: tuple[Tally, ...]
    step: Step | None
    sent: bool = False

    @property
    def is_turn(self) -> bool:
        return self.step is None


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
                self._call_ended(event.call, "done")
            case CallBilled():
                self.spend = self.spend.plus(event.usage, event.cost_usd)
            case CallFailed():
                self._call_ended(event.call, "dropped" if event.error in NOT_OUTCOMES else "failed")
            case CallRetried():
                self.retries += 1
                self._call_waits_again(event)
            case SubcallEnded(failure=SubcallFailure()):
                self._subcall_failed(event)
            case CellStarted():
                self._cell_started(event)
            case CellExecuted():
                self._cell_executed(event)
            case NodeStarted():
                self._node_started(event)
            case NodeFinished():
                self._node_finished(event)
            case _:
                self._run_event(event)

    def _run_event(self, event: AnyEvent) -> None:
        match event:
            case RunStarted():
                self.started = event
            case RunResumed():
                self.status = self.limit = self.error = None
                if self.root is not None:
                    self._go_on(self.root)
            case RunReopened():
                if self.root is not None and self.root.last_turn is not None:
                    self._forget_steps(
                        self.root, [step for step in self.root.steps if step.turn >= self.root.last_turn]
                    )
            case RunFinished():
                self._drop(list(self._open))
                self.status, self.limit, self.error = event.status, event.limit, event.error
            case _:
                pass

    def _call_started(self, event: CallStarted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        self._go_on(node)
        step: Step | None = None
        if event.role == "node":
            node.turn, node.activity = event.turn, "queued"
            node.last_turn = event.turn if event.limit is not None else None
            before = node.ended_turn[1] if node.ended_turn and node.ended_turn[0] == event.call else None
            tallies: tuple[Tally, ...] = (self.calls,)
        else:
            step = _step(node, f"{event.turn}.{event.cell}" if event.cell is not None else None, event.at_s)
            if step.end is not None:  # a limit had cut it short, and there is room for more now
                step.ended_s = step.end = step.error = None
            before = step.ended.pop(event.call, None)
            tallies = (self.calls, _group(step, event.batch).tally)
        if before is not None:  # the run was taken up, and makes it again
            before.take_back(self.calls)
            if step is None:
                self._forget_steps(node, [each for each in node.steps if each.turn > event.turn])
        for tally in tallies:
            tally.waiting += 1
        node.open_calls += 1
        self.deepest = max(self.deepest, event.depth)
        self._open[event.call] = _OpenCall(node, tallies, step)

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

    def _call_ended(self, call_id: CallId, end: End) -> None:
        call = self._close(call_id)
        if call is None:
            return
        ended = EndedCall.count(*((tally, end) for tally in call.tallies))
        if call.step is None:
            call.node.activity, call.node.ended_turn = "reading", (call_id, ended)
        elif call.step.end is None:
            call.step.ended[call_id] = ended

    def _subcall_failed(self, event: SubcallEnded) -> None:
        """One whose reply was of no use, or that was never made: then no call counts for it."""
        node = self._nodes.get(event.node)
        if node is None or NodeId(event.call) in self._nodes:
            return
        place = SubcallPlace.parse(event.call)
        step = _step(node, f"{place.turn}.{place.cell}", event.at_s)
        ended = step.ended.get(event.call)
        if ended is None and not event.prefetched:
            newest = next(reversed(step.groups.values()), None) or _group(step, None)
            step.ended[event.call] = EndedCall.count((newest.tally, "failed"))
        elif ended is not None and ended.counted[-1][1] == "done":
            (calls, end), (group, _) = ended.counted
            ended.take_back()
            step.ended[event.call] = EndedCall.count((calls, end), (group, "failed"))

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
        self._go_on(node)
        self._forget_steps(node, [step for step in node.steps if step.name == event.cell.name])
        node.activity = "executing"
        node.cells += 1
        node.steps.append(Step(event.cell.name, _telling_line(event.cell.code), event.at_s))

    def _cell_executed(self, event: CellExecuted) -> None:
        node = self._nodes.get(event.node)
        if node is None:
            return
        step = _step(node, event.cell.name, event.at_s)
        step.ended_s, step.end = event.at_s, event.result.end
        step.ended = {call: ended for call, ended in step.ended.items() if ended.counted[-1][1] != "done"}
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
        for step in node.steps:
            if step.end is None:
                step.ended_s, step.end, step.cut = event.at_s, "interrupted", True
        if node is not self.root:
            node.steps.clear()
        for tally in (self.nodes, *node.tallies):
            tally.running -= 1
            tally.count(_end_of(node))

    def _go_on(self, node: NodeProgress) -> None:
        """One that had come to an end does more."""
        if node.status is None:
            return
        for tally in (self.nodes, *node.tallies):
            tally.count(_end_of(node), -1)
            tally.running += 1
        node.activity, node.status, node.ended_s, node.error = "starting", None, None, None
        for step in node.steps:
            if step.cut:
                step.ended_s, step.end, step.cut = None, None, False

    def _forget_steps(self, node: NodeProgress, steps: list[Step]) -> None:
        """Cells in whose place the run executes others."""
        for step in steps:
            node.steps.remove(step)
            node.cells -= 1


def _end_of(node: NodeProgress) -> End:
    return "done" if node.status in ("complete", "partial") else "failed"


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
