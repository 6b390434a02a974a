"""Everything that happens in a run, as flat facts in the past tense. Views, usage totals and journals are folds over them.

Every event carries the run, the node it belongs to and the seconds since the run began. Events hold the objects
themselves (requests, replies, results); who stores them decides how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import CallRole, Reply, Request, Usage
from rlm.core.subcalls import SubcallFailure

SCHEMA_VERSION = 3
"""Version of the events in journals and exports. It grows with every change that older programs cannot read."""

Status: TypeAlias = Literal["complete", "partial", "failed", "cancelled"]
"""``complete``: an answer, no limit met. ``partial``: an answer, given because a limit was met. The others have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """``seq`` numbers the events of a run from 1, also across processes; 0 if nothing has recorded the event."""

    run: RunId
    node: NodeId
    at_s: float
    seq: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """``models[d]`` is the model that speaks at depth ``d``; the last entry serves all deeper levels."""

    question: str
    context: str
    models: tuple[str, ...]
    max_depth: int
    sandbox: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed(Event):
    """Another process resumed the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReopened(Event):
    """A run that was taken up has other limits than it had met: the turn that these made its root's last counts no more.

    ``told`` is what the root is told of that, with what its last cell gave.
    """

    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted(Event):
    """``parent`` is None for the root. ``context`` describes the input in one line ("str, 120,345 characters").

    ``key`` is the hash of the sub-call that asked for a child: with its place it identifies the node when cells run again.
    """

    parent: NodeId | None
    depth: int
    model: str
    question: str
    context: str
    batch: int | None = None
    key: str = ""
    prefetched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(Event):
    """A call to a model was asked for. It may still wait for a slot; ``CallSent`` tells when it left.

    For a node's own turn ``role`` is "node" and ``turn`` counts from 1; for a leaf call ``turn`` and ``cell`` say which cell
    asked, ``batch`` groups the items of one batch, and ``key`` is the hash of the sub-call. ``prefetched``: it was asked before
    the cell came to it; how many of these a cell used and wasted is in its ``CellExecuted``. ``limit`` is set where a limit
    made this a node's last turn.
    """

    call: CallId
    role: CallRole
    depth: int
    model: str
    turn: int
    request: Request
    cell: int | None = None
    batch: int | None = None
    key: str = ""
    limit: str | None = None
    prefetched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSent(Event):
    """An attempt left for the provider; ``attempt`` counts from 1."""

    call: CallId
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetried(Event):
    """An attempt failed and another follows after ``delay_s``."""

    call: CallId
    attempt: int
    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallReplied(Event):
    """``cost_usd`` is the provider's figure where it reports one, else from the price list; None where unknown.

    ``cached``: the answer came from the store's cache of earlier runs, and cost nothing. ``billed`` is False for a reply that was
    taken while it still arrived: what it costs follows in a ``CallBilled``, and ``usage`` is empty until then.
    """

    call: CallId
    reply: Reply
    cost_usd: float | None
    elapsed_s: float
    cached: bool = False
    billed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed(Event):
    """A call ended without a reply, after all its attempts. ``error`` is the class name, ``message`` its text.

    ``text`` is what had arrived of a reply that was cut: the conversation goes on with it.
    """

    call: CallId
    error: str
    message: str
    elapsed_s: float
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubcallEnded(Event):
    """What a cell was told in place of a plain reply: a child's answer (``value``), or why there is none (``failure``).

    ``call`` names the sub-call's place, as the id of its leaf call or child node does. ``prefetched`` as for ``CallStarted``:
    what was refused has no other event.
    """

    call: CallId
    key: str
    value: PlainValue = None
    failure: SubcallFailure | None = None
    elapsed_s: float = 0.0
    prefetched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBilled(Event):
    """An attempt that gave no reply is paid for all the same: an empty, cut or refused reply, a call cut off after it was sent.
    So is a reply that was taken while it still arrived.

    ``usage`` and ``cost_usd`` are what was reported. Where nobody reported anything they are empty, and ``assumed_tokens`` and
    ``assumed_usd`` are the most that it can have cost; the budget counts that.
    """

    call: CallId
    usage: Usage = Usage()
    cost_usd: float | None = 0.0
    assumed_tokens: int = 0
    assumed_usd: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CellStarted(Event):
    cell: Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class CellExecuted(Event):
    """``notice`` is what the model is told of its budget after this cell, empty while there is plenty.

    ``dropped``: it was executed again and did something else: sub-calls of its earlier execution that it no longer made.
    """

    cell: Cell
    result: CellResult
    notice: str = ""
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFinished(Event):
    """``answer`` is None unless the status is complete or partial; ``limit`` names the limit of a partial one."""

    status: Status
    answer: PlainValue
    turns: int
    error: str | None = None
    limit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFinished(Event):
    """The last event of every run, also of a failed or cancelled one."""

    status: Status
    answer: PlainValue
    error: str | None = None
    limit: str | None = None


AnyEvent: TypeAlias = (
    RunStarted
    | RunResumed
    | RunReopened
    | NodeStarted
    | CallStarted
    | CallSent
    | CallRetried
    | CallReplied
    | CallFailed
    | SubcallEnded
    | CallBilled
    | CellStarted
    | CellExecuted
    | NodeFinished
    | RunFinished
)
