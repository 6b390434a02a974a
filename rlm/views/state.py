"""How a run stands, as the views know it: nodes, their cells, and counts of calls. ``progress`` keeps it true."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rlm.core.cells import CellEnd
from rlm.core.events import Status
from rlm.core.ids import CallId, NodeId

Activity: TypeAlias = Literal["starting", "queued", "asking", "reading", "executing", "finished"]
"""What a node does: waits for a slot (queued), for its model (asking), reads a reply, executes a cell."""

End: TypeAlias = Literal["done", "failed", "dropped"]

KEPT_CHARS = 400
"""Characters kept of a question, a line of code, an error: no screen shows more of one line."""


@dataclass(slots=True)
class Tally:
    """How many of some calls wait for a slot, run, are answered, failed, or were dropped when their node ended."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    dropped: int = 0

    @property
    def total(self) -> int:
        return self.waiting + self.running + self.done + self.failed + self.dropped

    @property
    def open(self) -> int:
        return self.waiting + self.running

    def count(self, end: End, by: int = 1) -> None:
        match end:
            case "done":
                self.done += by
            case "failed":
                self.failed += by
            case "dropped":
                self.dropped += by

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.waiting + other.waiting,
            self.running + other.running,
            self.done + other.done,
            self.failed + other.failed,
            self.dropped + other.dropped,
        )


@dataclass(slots=True)
class Group:
    """The sub-calls of one batch, or (``batch`` None) the single sub-calls of one cell: leaf calls and child nodes."""

    batch: int | None
    tally: Tally = field(default_factory=Tally)
    children: list[NodeProgress] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EndedCall:
    """Where a call is counted, and as what."""

    counted: tuple[tuple[Tally, End], ...]

    @classmethod
    def count(cls, *counted: tuple[Tally, End]) -> EndedCall:
        for tally, end in counted:
            tally.count(end)
        return cls(counted)

    def take_back(self, paid: Tally | None = None) -> None:
        """``paid`` is the tally of all calls, where one that was answered stays counted: it was paid for."""
        for tally, end in self.counted:
            if not (tally is paid and end == "done"):
                tally.count(end, -1)


@dataclass(slots=True)
class Step:
    """One cell: the line that tells it from others, how it ended, and what it asked for.

    ``ended`` is how its calls ended, of a cell that is over those that failed: they may be made again, when the run is taken up.
    ``cut``: its node ended before it.
    """

    name: str
    code: str
    started_s: float
    ended_s: float | None = None
    end: CellEnd | None = None
    error: str | None = None
    groups: dict[int | None, Group] = field(default_factory=dict)
    ended: dict[CallId, EndedCall] = field(default_factory=dict)
    cut: bool = False

    @property
    def turn(self) -> int:
        return int(self.name.partition(".")[0] or 0)

    @property
    def tally(self) -> Tally:
        return sum((group.tally for group in self.groups.values()), Tally())


@dataclass(slots=True)
class NodeProgress:
    """One node. The steps of a finished one are forgotten, except the root's. ``last_turn``: a limit made it the last."""

    id: NodeId
    depth: int
    model: str
    question: str
    context: str
    started_s: float
    group: Group | None
    activity: Activity = "starting"
    turn: int = 0
    cells: int = 0
    cell_errors: int = 0
    ended_s: float | None = None
    status: Status | None = None
    error: str | None = None
    steps: list[Step] = field(default_factory=list)
    open_calls: int = 0
    ended_turn: tuple[CallId, EndedCall] | None = None
    last_turn: int | None = None

    @property
    def tallies(self) -> tuple[Tally, ...]:
        """Where it is counted among the sub-calls of its parent."""
        return (self.group.tally,) if self.group else ()
