"""The state of a run as the views know it: nodes, their cells, and counts of calls. ``progress`` updates it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rlm.core.cells import CellEnd
from rlm.core.events import Status
from rlm.core.ids import CallId, NodeId
from rlm.core.values import frozen, slotted

Activity: TypeAlias = Literal["starting", "queued", "asking", "reading", "executing", "finished"]
"""The activity of a node: it waits for a slot (queued) or for its model (asking), reads a reply, or executes a cell."""

End: TypeAlias = Literal["done", "failed", "cancelled"]

MAX_TEXT_CHARS = 400
"""Characters of a question, of a line of code, of an error: no screen shows more in one line."""


@slotted
class Tally:
    """Calls by state. ``waiting`` ones have no slot yet; ``cancelled`` ones were cut off when their node ended."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.done + self.failed + self.cancelled

    @property
    def open(self) -> int:
        return self.waiting + self.running

    def count(self, end: End, by: int = 1) -> None:
        match end:
            case "done":
                self.done += by
            case "failed":
                self.failed += by
            case "cancelled":
                self.cancelled += by

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.waiting + other.waiting,
            self.running + other.running,
            self.done + other.done,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
        )


@dataclass(slots=True, eq=False)
class SubcallGroup:
    """Leaf calls and child nodes of one batch, or (``batch`` None) the single sub-calls of one cell."""

    batch: int | None
    tally: Tally = field(default_factory=Tally)
    children: list[NodeProgress] = field(default_factory=list)


@frozen
class CountedCall:
    """The tallies that count an ended call, each with the end that it counts."""

    counted: tuple[tuple[Tally, End], ...]

    @classmethod
    def count(cls, *counted: tuple[Tally, End]) -> CountedCall:
        for tally, end in counted:
            tally.count(end)
        return cls(counted)

    def uncount(self, paid: Tally | None = None) -> None:
        """Removes the call from its tallies. An answered call stays in the tally ``paid``."""
        for tally, end in self.counted:
            if not (tally is paid and end == "done"):
                tally.count(end, -1)

    @property
    def group_end(self) -> End:
        """The end that the innermost tally counts."""
        return self.counted[-1][1]


@dataclass(slots=True, eq=False)
class CellProgress:
    """One cell: the line of code that identifies it, its end, and its sub-calls.

    ``ended`` are its ended calls; once the cell has ended, only those without an answer. ``cut``: its node ended before it.
    ``tools`` counts executions of tools.
    """

    name: str
    code: str
    started_s: float
    ended_s: float | None = None
    end: CellEnd | None = None
    error: str | None = None
    groups: dict[int | None, SubcallGroup] = field(default_factory=dict)
    ended: dict[CallId, CountedCall] = field(default_factory=dict)
    cut: bool = False
    tools: Tally = field(default_factory=Tally)

    @property
    def tally(self) -> Tally:
        return sum((group.tally for group in self.groups.values()), Tally())

    @property
    def children(self) -> list[NodeProgress]:
        return [child for group in self.groups.values() for child in group.children]

    def group(self, batch: int | None) -> SubcallGroup:
        """The group of a batch; a new one for its first sub-call."""
        group = self.groups.get(batch)
        if group is None:
            group = self.groups[batch] = SubcallGroup(batch)
        return group

    def reopen(self) -> None:
        """Marks a cell as running again."""
        self.ended_s, self.end, self.error, self.cut = None, None, None, False


@dataclass(slots=True, eq=False)
class NodeProgress:
    """One node. A finished one has no cells, unless it is the root.

    Attributes:
        place: its place in the queue for memory, while it is starting; 0 if it did not have to wait.
        unanswered: its turns that ended without a reply.
    """

    id: NodeId
    depth: int
    model: str
    question: str
    context: str
    started_s: float
    group: SubcallGroup | None
    activity: Activity = "starting"
    place: int = 0
    turn: int = 0
    ended_s: float | None = None
    status: Status | None = None
    error: str | None = None
    cells: list[CellProgress] = field(default_factory=list)
    open_calls: int = 0
    unanswered: dict[int, CountedCall] = field(default_factory=dict)

    @property
    def end(self) -> End | None:
        """The end that tallies count; None while the node is open."""
        if self.status is None:
            return None
        return "done" if self.status in ("complete", "partial") else "failed"

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """The tallies of its parent that count it."""
        return (self.group.tally,) if self.group else ()

    def cell(self, name: str | None, at_s: float) -> CellProgress:
        """The named cell, or (``name`` None) the latest; a new one if its start was not seen."""
        for cell in reversed(self.cells):
            if name is None or cell.name == name:
                return cell
        self.cells.append(CellProgress(name or "", "", at_s))
        return self.cells[-1]
