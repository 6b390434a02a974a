"""Names of runs, nodes and calls. A name tells the place in the tree, never the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

RunId = NewType("RunId", str)

NodeId = NewType("NodeId", str)
"""A node's path: the root is ``"0"``, the child asked for by sub-call 3 of its second turn's first cell ``"0/2.1.3"``."""

CallId = NewType("CallId", str)
"""One model call: ``"0@2"`` is the root's second turn, ``"0/2.1.3"`` the leaf call of that sub-call."""

ROOT = NodeId("0")


@dataclass(frozen=True, slots=True)
class SubcallPlace:
    """Where a sub-call was asked for: the node, its turn and cell (from 1), and its number within the cell (from 1)."""

    node: NodeId
    turn: int
    cell: int
    number: int

    @property
    def path(self) -> str:
        return f"{self.node}/{self.turn}.{self.cell}.{self.number}"

    @classmethod
    def parse(cls, path: str) -> SubcallPlace:
        """The place that a child node's or a leaf call's id names."""
        node, _, last = path.rpartition("/")
        turn, cell, number = last.split(".")
        return cls(NodeId(node), int(turn), int(cell), int(number))


def number_in_cell(call: CallId) -> int:
    """The number of a sub-call within its cell, from the id of its leaf call: for those who know the rest of its place."""
    return int(call.rpartition(".")[2])


def turn_call(node: NodeId, turn: int) -> CallId:
    """The id of the model call that a node's turn makes."""
    return CallId(f"{node}@{turn}")


def summary_call(node: NodeId, turn: int) -> CallId:
    """The id of the call that shortens a node's conversation before a turn."""
    return CallId(f"{node}@{turn}.summary")


def is_subcall(call: CallId) -> bool:
    """Whether an id names a sub-call of a cell, not a turn or a summary."""
    return "@" not in call
