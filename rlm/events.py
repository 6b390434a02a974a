"""All events of a run, for sinks, streams and stored runs. See ``rlm.core.events`` for their fields.

    async for event in engine.stream(question, text):
        match event:
            case rlm.events.CellExecuted():
                print(event.seq, event.node, event.result.stdout)

Events of a call name it by ``call``; its role, depth and model are in its ``CallStarted``.
"""

from rlm.core.events import (
    SCHEMA_VERSION,
    AnswerValidated,
    AnyEvent,
    CallBilled,
    CallFailed,
    CallReplied,
    CallRetried,
    CallSent,
    CallStarted,
    CellExecuted,
    CellStarted,
    Event,
    NodeFinished,
    NodeQueued,
    NodeStarted,
    RunFinished,
    RunReopened,
    RunResumed,
    RunStarted,
    Status,
    SubcallEnded,
    Superseded,
    ToolEnded,
    ToolStarted,
)

__all__ = [
    "SCHEMA_VERSION",
    "AnswerValidated",
    "AnyEvent",
    "CallBilled",
    "CallFailed",
    "CallReplied",
    "CallRetried",
    "CallSent",
    "CallStarted",
    "CellExecuted",
    "CellStarted",
    "Event",
    "NodeFinished",
    "NodeQueued",
    "NodeStarted",
    "RunFinished",
    "RunReopened",
    "RunResumed",
    "RunStarted",
    "Status",
    "SubcallEnded",
    "Superseded",
    "ToolEnded",
    "ToolStarted",
]
