"""Names of runs, nodes and calls. A name gives the place in the tree, never the order of arrival."""

from __future__ import annotations

from typing import NewType

from rlm.core.values import frozen

RunId = NewType("RunId", str)

NodeId = NewType("NodeId", str)
"""A node's path. The root is ``"0"``; ``"0/2.1.3"`` is its child from turn 2, cell 1, sub-call 3."""

CallId = NewType("CallId", str)
"""One model call. ``"0@2"`` is the root's second turn; ``"0/2.1.3"`` is the leaf call of that sub-call."""

ROOT = NodeId("0")


@frozen
class SubcallPlace:
    """Origin of a sub-call: the node, its turn and cell, and the number within the cell. All count from 1."""

    node: NodeId
    turn: int
    cell: int
    number: int

    @property
    def path(self) -> str:
        return f"{self.node}/{self.turn}.{self.cell}.{self.number}"

    @classmethod
    def parse(cls, path: str) -> SubcallPlace:
        """Parses the id of a child node or of a leaf call."""
        node, _, last = path.rpartition("/")
        turn, cell, number = last.split(".")
        return cls(NodeId(node), int(turn), int(cell), int(number))


def number_in_cell(call: CallId) -> int:
    """Returns the number of a sub-call within its cell, given the id of its leaf call."""
    return int(call.rpartition(".")[2])


def turn_call(node: NodeId, turn: int) -> CallId:
    """Returns the id of the model call of a node's turn."""
    return CallId(f"{node}@{turn}")


def summary_call(node: NodeId, turn: int) -> CallId:
    """Returns the id of the call that summarises a node's conversation before a turn."""
    return CallId(f"{node}@{turn}.summary")


def is_subcall(call: CallId) -> bool:
    """Returns True for the id of a cell's sub-call, and False for a turn or a summary."""
    return "@" not in call
