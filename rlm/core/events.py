"""Events: everything that happens in a run, as flat facts in the past tense. Views, usage and journals are folds over them.

Every event carries the run, the node it belongs to, a sequence number, and the seconds since the run started. Events of a
call name it by its id; role, depth and model of the call are in its ``CallStarted``. Events hold the objects themselves
(requests, replies, results).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.evidence import Citation
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import CallRole, JsonSchema, Reply, Request, Usage
from rlm.core.subcalls import SubcallFailure
from rlm.core.tools import ToolSpec
from rlm.core.values import frozen

SCHEMA_VERSION = 3
"""Version of the events in journals and exports. It grows with every change that older programs cannot read."""

Status: TypeAlias = Literal["complete", "partial", "failed", "cancelled"]
"""``complete``: an answer within all limits. ``partial``: an answer, given because a limit was met. The others have none."""


@frozen(kw_only=True)
class Event:
    """``seq`` numbers the events of a run from 1, also across processes; 0 if nothing has recorded the event."""

    run: RunId
    node: NodeId
    at_s: float
    seq: int = 0


@frozen(kw_only=True)
class RunStarted(Event):
    """The first event of a run.

    Attributes:
        models: the model of each depth; the last entry serves all deeper levels.
        side_table: JSON with places and tables of the documents in the context; empty if there are none.
        tools: the tools of the run.
        continues: the run of the question before, in a session; empty for a first question.
        schema: the JSON schema of the answer; None for any answer.
    """

    question: str
    context: str
    models: tuple[str, ...]
    max_depth: int
    sandbox: str
    side_table: str = ""
    tools: tuple[ToolSpec, ...] = ()
    continues: str = ""
    schema: JsonSchema | None = None


@frozen(kw_only=True)
class RunResumed(Event):
    """Another process resumed the run."""


@frozen(kw_only=True)
class RunReopened(Event):
    """A resumed run has limits other than those it had met.

    ``notice`` says so to the root's model, after the output of its last cell. It is None if the root does not go on from
    that output.
    """

    notice: str | None = None


@frozen(kw_only=True)
class Superseded(Event):
    """Work of ``node`` that other work replaces. It counts as cost and as nothing else: folds drop what this event names.

    Attributes:
        from_turn: this turn, all later turns, and the summaries made before those; None names no turn.
        cells: cells by turn and number, each with all its sub-calls.
        calls: sub-calls (a leaf call, or a child node with everything below it) and summaries.
        results: cells that are executed again. Their results are dropped, their sub-calls are not.
    """

    from_turn: int | None = None
    cells: tuple[tuple[int, int], ...] = ()
    calls: tuple[CallId, ...] = ()
    results: tuple[tuple[int, int], ...] = ()


@frozen(kw_only=True)
class NodeStarted(Event):
    """A node started. ``parent`` is None for the root.

    Attributes:
        context: the input in one line ("str, 120,345 characters").
        batch: groups the children of one batch.
        key: the hash of the sub-call that asked for a child; with its place it identifies the node when cells run again.
        prefetched: the sub-call was made before its cell reached it.
        tools: names of the tools that its cells can call.
        schema: the JSON schema of a child's answer; that of the root is in ``RunStarted``.
    """

    parent: NodeId | None
    depth: int
    model: str
    question: str
    context: str
    batch: int | None = None
    key: str = ""
    prefetched: bool = False
    tools: tuple[str, ...] = ()
    schema: JsonSchema | None = None


@frozen(kw_only=True)
class NodeQueued(Event):
    """A node waits for memory for its REPL. ``place`` counts from 1; it is reported at first, and whenever it has halved."""

    place: int


@frozen(kw_only=True)
class CallStarted(Event):
    """A call to a model was requested. It can still wait for a slot; ``CallSent`` follows when it leaves.

    Attributes:
        role: "node" for a node's own turn, "leaf" for a plain sub-call.
        turn: from 1. For a leaf call ``turn`` and ``cell`` name the cell that made it.
        batch: groups the calls of one batch.
        key: the hash of the sub-call.
        limit: the limit that made this a node's last turn.
        prefetched: the call was made before its cell reached it; ``CellExecuted`` counts how many were used.
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


@frozen(kw_only=True)
class CallSent(Event):
    """An attempt left for the provider; ``attempt`` counts from 1.

    Attributes:
        hedge: a second request beside the attempt in flight, which takes far longer than its siblings. The first answer wins.
    """

    call: CallId
    attempt: int
    hedge: bool = False


@frozen(kw_only=True)
class CallRetried(Event):
    """An attempt failed and another follows after ``delay_s``."""

    call: CallId
    attempt: int
    delay_s: float
    reason: str


@frozen(kw_only=True)
class CallReplied(Event):
    """A call ended with a reply.

    Attributes:
        cost_usd: the provider's figure, or that of the price list; None if unknown.
        elapsed_s: seconds since its ``CallStarted``.
        cached: the answer came from the cache of earlier runs, and cost nothing.
        billed: False for a reply that was accepted before its stream ended. Its cost follows in a ``CallBilled``; until then
            ``usage`` is empty.
    """

    call: CallId
    reply: Reply
    cost_usd: float | None
    elapsed_s: float
    cached: bool = False
    billed: bool = True


@frozen(kw_only=True)
class CallFailed(Event):
    """A call ended without a reply, after all its attempts. ``error`` is the class name, ``message`` its text.

    ``text`` is the part of a truncated reply that arrived: the conversation continues with it.
    """

    call: CallId
    error: str
    message: str
    elapsed_s: float
    text: str = ""


@frozen(kw_only=True)
class SubcallEnded(Event):
    """A cell received something other than a plain reply: a child's answer (``value``), or a ``failure``.

    ``call`` names the sub-call's place, as the id of its leaf call or child node does. A refused sub-call has no other event.
    ``prefetched`` as for ``CallStarted``. ``times`` is the number of refused sub-calls that the event stands for: beyond a limit
    for each cell, refusals are recorded together at its end.
    """

    call: CallId
    key: str
    value: PlainValue = None
    failure: SubcallFailure | None = None
    elapsed_s: float = 0.0
    prefetched: bool = False
    times: int = 1


@frozen(kw_only=True)
class ToolStarted(Event):
    """A tool is about to be executed in the user's process. ``call`` names the sub-call's place.

    Attributes:
        key: the hash of the sub-call.
        args, kwargs: the arguments, a tuple and a dict. Of arguments beyond 256 KiB, ``args`` has the cut text alone.
        idempotent: the tool declared that it can be executed again.
    """

    call: CallId
    tool: str
    key: str
    args: PlainValue = ()
    kwargs: PlainValue = None
    idempotent: bool = False


@frozen(kw_only=True)
class ToolEnded(Event):
    """The execution of a tool ended with a ``value`` or a ``failure``.

    Attributes:
        elapsed_s: seconds since its ``ToolStarted``.
        interrupted: the run was stopped, or its process ended, before the tool did. It might have taken effect.
    """

    call: CallId
    tool: str
    value: PlainValue = None
    failure: SubcallFailure | None = None
    elapsed_s: float = 0.0
    interrupted: bool = False


@frozen(kw_only=True)
class CallBilled(Event):
    """Cost of an attempt without a reply, or of a reply that was accepted before its stream ended.

    Empty, truncated and refused replies cost money, as do calls that were cancelled after they were sent.
    ``usage`` and ``cost_usd`` are the provider's figures. If it reports none, they are empty. The budget then counts
    ``assumed_tokens`` and ``assumed_usd``, the most that the attempt can have cost.
    """

    call: CallId
    usage: Usage = Usage()
    cost_usd: float | None = 0.0
    assumed_tokens: int = 0
    assumed_usd: float = 0.0


@frozen(kw_only=True)
class CellStarted(Event):
    cell: Cell


@frozen(kw_only=True)
class CellExecuted(Event):
    """A cell ended. ``notice`` shows the model its budget after this cell; empty while there is plenty."""

    cell: Cell
    result: CellResult
    notice: str = ""


@frozen(kw_only=True)
class AnswerValidated(Event):
    """The answer of a turn was checked against its schema. It is valid unless there are ``problems``.

    Attributes:
        turn: the node's turn that gave the answer.
        answer: the answer in JSON types; None if it is not valid.
        problems: each violation, with its path.
    """

    turn: int
    answer: PlainValue = None
    problems: tuple[str, ...] = ()


@frozen(kw_only=True)
class NodeFinished(Event):
    """``answer`` is None unless the status is complete or partial; ``limit`` names the limit of a partial one."""

    status: Status
    answer: PlainValue
    turns: int
    error: str | None = None
    limit: str | None = None


@frozen(kw_only=True)
class RunFinished(Event):
    """The last event of every run, also of a failed or cancelled one. ``citations`` are those of the answer."""

    status: Status
    answer: PlainValue
    error: str | None = None
    limit: str | None = None
    citations: tuple[Citation, ...] = ()


AnyEvent: TypeAlias = (
    RunStarted
    | RunResumed
    | RunReopened
    | Superseded
    | NodeStarted
    | NodeQueued
    | CallStarted
    | CallSent
    | CallRetried
    | CallReplied
    | CallFailed
    | SubcallEnded
    | ToolStarted
    | ToolEnded
    | CallBilled
    | CellStarted
    | CellExecuted
    | AnswerValidated
    | NodeFinished
    | RunFinished
)
