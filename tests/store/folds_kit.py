"""Checks that the folds over a recorded run agree: its tree, its history, and the progress that a view shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlm.core.events import AnyEvent, CellExecuted, RunReopened, Superseded
from rlm.core.history import History
from rlm.core.ids import CallId, SubcallPlace
from rlm.core.tree import NodeRecord
from rlm.core.tree_builder import TreeBuilder
from rlm.store.upgrade import OldExecuted, OldReopened, upgrade
from rlm.views.progress import Progress


def outcomes(root: NodeRecord) -> list[list[str]]:
    """The calls of each node with their outcomes, and its cells."""
    return [
        [
            *(f"{call.id} {call.superseded} {call.error}" for call in node.calls),
            *(f"{cell.name} {result.end}" for cell, result in node.cells),
        ]
        for node in root.walk()
    ]


def build_tree(events: Sequence[AnyEvent]) -> NodeRecord:
    tree = TreeBuilder()
    for event in events:
        tree.add(event)
    assert tree.root is not None
    return tree.root


def check_folds(record: Sequence[AnyEvent]) -> NodeRecord:
    """Checks a run that ended with a complete answer; returns its tree."""
    events = list(record)
    root = build_tree(events)
    _check_tree(root)
    _check_history(events, root)
    _check_progress(events, root)
    assert upgrade(events) == events
    assert outcomes(build_tree(upgrade(list(in_old_form(events))))) == outcomes(root)
    return root


def _check_tree(root: NodeRecord) -> None:
    """Every turn and every cell counts once."""
    assert (root.open_cell, root.superseded, root.status) == (None, False, "complete")
    for node in root.walk():
        places = [cell.place for cell, _ in node.cells]
        assert places == sorted(set(places))
        turns = [turn.turn for turn, _ in node.calls_by_turn() if not turn.superseded]
        assert turns == sorted(set(turns))
        assert node.superseded or {cell.turn for cell, _ in node.cells} <= set(turns)
        assert sum(1 + len(calls) for _, calls in node.calls_by_turn()) == len(node.calls)


def _check_history(events: Sequence[AnyEvent], root: NodeRecord) -> None:
    """A resume would find exactly the work that counts in the tree."""
    history = History(keep_all=True)
    for event in events:
        history.note(event)
    for node in root.walk():
        if node.superseded:
            continue
        recorded = history.nodes[node.id]
        # A child that was cancelled in a cell has that cell in its history, without a result.
        finished = [place for place, cell in recorded.cells.items() if cell.result is not None]
        assert sorted(finished) == [cell.place for cell, _ in node.cells]
        assert len(finished) == len(recorded.cells) or node.status == "cancelled"
        assert not any(cell.unconfirmed for cell in recorded.cells.values())
        assert sorted(recorded.turns) == [turn.turn for turn in node.turns if not turn.superseded]
        paths = {
            SubcallPlace(node.id, *place, number).path
            for place, cell in recorded.cells.items()
            for number in cell.numbers
        }
        children = {child.id for child in node.children if not child.superseded}
        leaves = {call.id for call in node.leaves if call.cell is not None and not call.superseded}
        assert children | leaves | {place.path for place in node.refused} == paths


def _check_progress(events: Sequence[AnyEvent], root: NodeRecord) -> None:
    """A watcher sees the cells of the tree, and nothing is left open."""
    progress = Progress()
    for event in events:
        progress.add(event)
    assert progress.root is not None
    assert [cell.name for cell in progress.root.cells] == [cell.name for cell, _ in root.cells]
    tallies = [progress.calls, progress.nodes, *(cell.tally for cell in progress.root.cells)]
    assert all(min(tally.waiting, tally.running, tally.done, tally.failed, tally.cancelled) >= 0 for tally in tallies)
    assert all(tally.open == 0 for tally in tallies)
    assert (progress.status, progress.nodes.done + progress.nodes.failed) == ("complete", len(root.walk()))


def in_old_form(events: Sequence[AnyEvent]) -> Iterator[AnyEvent]:
    """The events as a version without ``Superseded`` recorded them."""
    omitted: tuple[CallId, ...] = ()
    for event in events:
        if isinstance(event, RunReopened):
            yield OldReopened(run=event.run, node=event.node, at_s=event.at_s, told=event.notice or "")
        elif isinstance(event, CellExecuted) and omitted:
            numbers = tuple(SubcallPlace.parse(call).number for call in omitted)
            yield OldExecuted(
                run=event.run, node=event.node, at_s=event.at_s, cell=event.cell, result=event.result, dropped=numbers
            )
        elif not isinstance(event, Superseded):
            yield event
        omitted = event.calls if isinstance(event, Superseded) else ()
