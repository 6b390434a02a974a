"""What must hold of a run on record, whatever it went through: of its tree, and of what a watcher saw."""

from __future__ import annotations

from collections.abc import Sequence

from rlm.core.events import AnyEvent
from rlm.core.tree import NodeRecord
from rlm.core.tree_builder import TreeBuilder
from rlm.views.progress import Progress


def told_of(root: NodeRecord) -> list[list[str]]:
    """Of each node, its calls and what became of them."""
    return [[f"{call.id} {call.superseded} {call.error}" for call in node.calls] for node in root.walk()]


def check_folds(events: Sequence[AnyEvent]) -> NodeRecord:
    """The tree of a run that came to a complete answer: everything stands in it once, and a watcher saw the same."""
    tree, progress = TreeBuilder(), Progress()
    for event in events:
        tree.add(event)
        progress.add(event)
    assert tree.root is not None
    for node in tree.root.walk():
        names = [cell.name for cell, _ in node.cells]
        assert names == sorted(set(names), key=lambda name: [int(part) for part in name.split(".")])
        assert (node.open_cell, node.superseded, node.status) == (None, False, "complete") or node is not tree.root
        turns = [turn.turn for turn, _ in node.calls_by_turn() if not turn.superseded]
        assert turns == sorted(set(turns))
        assert {cell.turn for cell, _ in node.cells} <= set(turns)
        assert sum(1 + len(calls) for _, calls in node.calls_by_turn()) == len(node.calls)
    assert progress.root is not None
    assert [step.name for step in progress.root.steps] == [cell.name for cell, _ in tree.root.cells]
    tallies = [progress.calls, progress.nodes, *(step.tally for step in progress.root.steps)]
    assert all(min(each.waiting, each.running, each.done, each.failed, each.dropped) >= 0 for each in tallies)
    assert all(each.open == 0 for each in tallies)
    assert (progress.status, progress.nodes.done + progress.nodes.failed) == ("complete", len(tree.root.walk()))
    return tree.root
