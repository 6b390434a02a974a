"""Decides which recorded work new work supersedes.

The engine asks before it starts new work, and emits the decision as ``Superseded``. The store asks while it reads runs that were
recorded before there was such an event. Folds only drop the work that the event names.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlm.core.events import Superseded
from rlm.core.history import History, RecordedCell, RecordedNode
from rlm.core.ids import ROOT, CallId, NodeId, RunId, SubcallPlace, summary_call
from rlm.core.pool import is_shared
from rlm.core.values import frozen


def is_lifted(limit: str | None) -> bool:
    """True for limits that a resume lifts by itself, if only because a shared budget can have room again."""
    return limit == "stopped" or is_shared(limit)


@frozen
class SupersededWork:
    """The fields of a ``Superseded`` event."""

    node: NodeId
    from_turn: int | None = None
    cells: tuple[tuple[int, int], ...] = ()
    calls: tuple[CallId, ...] = ()
    results: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return self.from_turn is not None or bool(self.cells or self.calls or self.results)

    def as_event(self, run: RunId, at_s: float) -> Superseded:
        return Superseded(
            run=run,
            node=self.node,
            at_s=at_s,
            from_turn=self.from_turn,
            cells=self.cells,
            calls=self.calls,
            results=self.results,
        )


def superseded_by_turn(history: History, node: NodeId, turn: int) -> SupersededWork:
    """A turn that is asked again supersedes itself and everything after it.

    The cells of the turn itself are not superseded yet: if its new reply writes the same code, their sub-calls still count.
    """
    recorded = history.nodes.get(node)
    if recorded is None or turn not in recorded.turns:
        return SupersededWork(node)
    return SupersededWork(node, turn, tuple(place for place in recorded.cells if place[0] > turn))


def superseded_by_reply(history: History, node: NodeId, before_turn: int | None = None) -> SupersededWork:
    """Cells of a turn that was asked again, once its new reply has not written them. ``before_turn`` None: any turn."""
    recorded = history.nodes.get(node)
    cells = {} if recorded is None else recorded.cells
    places = (place for place, cell in cells.items() if cell.unconfirmed)
    return SupersededWork(node, cells=tuple(place for place in places if before_turn is None or place[0] < before_turn))


def superseded_by_cell(history: History, node: NodeId, place: tuple[int, int]) -> SupersededWork:
    """A cell with other code supersedes the one in its place."""
    recorded = history.nodes.get(node)
    return SupersededWork(node, cells=(place,) if recorded is not None and place in recorded.cells else ())


def superseded_by_summary(history: History, node: NodeId, turn: int) -> SupersededWork:
    """A summary that is made again supersedes the first one."""
    recorded = history.nodes.get(node)
    return SupersededWork(
        node, calls=(summary_call(node, turn),) if recorded is not None and turn in recorded.summaries else ()
    )


def superseded_by_call(history: History, place: SubcallPlace) -> SupersededWork:
    """A sub-call that is made again supersedes the first one. A child node is not made again: it goes on."""
    again = history.call(place) is not None and NodeId(place.path) not in history.nodes
    return SupersededWork(place.node, calls=(CallId(place.path),) if again else ())


@frozen
class Reopening:
    """The effect of larger limits on a run that had met one.

    Attributes:
        works: the work that is superseded, by node.
        shows_notice: whether the root goes on from a cell's output, so that its model can be shown the new limits.
    """

    works: tuple[SupersededWork, ...]
    shows_notice: bool


def superseded_by_reopening(history: History) -> Reopening:
    """Larger limits supersede the turn that a limit had made the root's last, and everything it ran.

    If the limit cut the last cell short, that cell is executed again and asks for what it was refused. So does every child.
    """
    works = tuple(_reopen(history, ROOT))
    root = history.nodes.get(ROOT)
    return Reopening(works, root is not None and _goes_on_from_cell(root) and not any(_root_results(works)))


def is_lifted_by_resume(history: History) -> bool:
    """True if a stop or the time limit had ended work that a resume can do: it lifts both.

    Other limits hold until the caller raises them, so a last turn that they caused counts.
    """
    root = history.nodes.get(ROOT)
    if root is None:
        return False
    for number in sorted(root.turns):
        if (limit := root.turns[number].limit) is not None:
            return limit == "seconds" or is_lifted(limit)
    return bool(_cut_cells(history, ROOT))


def _root_results(works: tuple[SupersededWork, ...]) -> Iterator[tuple[int, int]]:
    return (place for work in works if work.node == ROOT for place in work.results)


def _goes_on_from_cell(node: RecordedNode) -> bool:
    answered = _last_answered(node)
    last = _last_finished(node, answered)
    return last is not None and last[0] == answered


def _last_answered(node: RecordedNode) -> int:
    """The last turn with an outcome, among those that no limit had made the last."""
    return max((number for number, turn in node.turns.items() if turn.limit is None and turn.has_outcome), default=0)


def _last_finished(node: RecordedNode, up_to_turn: int) -> tuple[int, int] | None:
    finished = (place for place, cell in node.cells.items() if cell.result is not None and place[0] <= up_to_turn)
    return max(finished, default=None)


def _reopen(history: History, node_id: NodeId) -> Iterator[SupersededWork]:
    node = history.nodes.get(node_id)
    if node is None:
        return
    again = _cut_cells(history, node_id)
    answered = again[0][0] if again else _last_answered(node)
    later = (number for number, turn in node.turns.items() if turn.limit is not None or (again and number > answered))
    cells = tuple(place for place in node.cells if place[0] > answered)
    yield from _if_any(SupersededWork(node_id, min(later, default=None), cells, results=again))
    for place in again:
        for child in _cut_subcalls(history, node_id, place):
            yield from _reopen(history, child)


def _cut_cells(history: History, node_id: NodeId) -> tuple[tuple[int, int], ...]:
    """The cells of one turn that are executed again: from the first that was cut short.

    The root's model has been shown everything up to its last turn, and can repeat what earlier cells were refused. A child that
    answered early goes on from the first cell with undone sub-calls.
    """
    node = history.nodes[node_id]
    turn = _last_answered(node)
    if node_id != ROOT:
        turn = min(history.undone.first_turn(node_id) or turn, turn)
    finished = sorted(place for place, cell in node.cells.items() if cell.result is not None and place[0] == turn)
    cut = (
        index
        for index, place in enumerate(finished)
        if _is_interrupted(node.cells[place]) or any(True for _ in _cut_subcalls(history, node_id, place))
    )
    return tuple(finished[first:]) if (first := next(cut, None)) is not None else ()


def _cut_subcalls(history: History, node_id: NodeId, place: tuple[int, int]) -> Iterator[NodeId]:
    """The sub-calls of a cell that were refused or cut off, and the children that answered without all of theirs."""
    for call in history.nodes[node_id].cells[place].numbers.values():
        child = NodeId(SubcallPlace(node_id, *place, call.number).path)
        if call.was_refused or (child in history.nodes and history.undone.is_below(child)):
            yield child


def _is_interrupted(cell: RecordedCell) -> bool:
    return cell.result is not None and cell.result.end == "interrupted"


def _if_any(work: SupersededWork) -> Iterator[SupersededWork]:
    if work:
        yield work
