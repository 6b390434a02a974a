"""Positions of sub-calls: the cell execution that makes them, and their place in the run."""

from __future__ import annotations

from collections.abc import Callable

from rlm.core.cells import Cell
from rlm.core.ids import SubcallPlace
from rlm.core.values import frozen
from rlm.engine.replay.ordering import RecordedAnswers
from rlm.engine.settings import NodeJob


@frozen
class CellExecution:
    """One execution of a cell, as its sub-calls see it.

    Attributes:
        node: the node that the cell belongs to.
        answers: the recorded answers to the cell's sub-calls.
        limit: the limit that forbids new sub-calls; None if they are allowed.
        stop: interrupts the cell, as the recorded one was interrupted while it waited for an answer.
    """

    node: NodeJob
    cell: Cell
    answers: RecordedAnswers
    limit: str | None
    stop: Callable[[], None]


@frozen
class SubcallSite:
    """Position of a sub-call in its run.

    Attributes:
        node: the node whose cell makes it.
        place: its path: node, turn, cell and number.
        key: hash of the request, by which replay finds the recorded outcome.
        batch: number of its batch within the cell; None for a single call.
    """

    node: NodeJob
    place: SubcallPlace
    key: str
    batch: int | None = None
