"""What a node is told and what it orders: the words between its table (``core/node.py``) and whoever drives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.errors import RLMError
from rlm.core.messages import Message

# Events: what happened.


@dataclass(frozen=True, slots=True)
class Begun:
    """The REPL is open."""


@dataclass(frozen=True, slots=True)
class Replied:
    """``tokens``: of the conversation up to and with this reply, as the provider counted them; 0 where it did not."""

    text: str
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class AskFailed:
    error: RLMError


@dataclass(frozen=True, slots=True)
class LimitMet:
    """A limit of the run forbids the turn that was asked for; one last turn may still be made.

    ``shown_bytes``: how much of the output that the model has not seen yet the last turn can pay for; None: all of it.
    """

    limit: str
    shown_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Executed:
    """``notice``: what the model is to know of its budget, empty while there is plenty."""

    result: CellResult
    notice: str = ""


@dataclass(frozen=True, slots=True)
class Compacted:
    """The summary that was asked for."""

    summary: str


@dataclass(frozen=True, slots=True)
class ValueRead:
    value: PlainValue


@dataclass(frozen=True, slots=True)
class ValueMissing:
    pass


NodeEvent: TypeAlias = Begun | Replied | AskFailed | LimitMet | Executed | ValueRead | ValueMissing | Compacted


# Actions: what is to be done next.


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the node's model for turn ``turn``.

    ``last``: there will be no other turn, and it is paid from what was held back. ``limit`` says which limit made it the last.
    """

    messages: tuple[Message, ...]
    turn: int
    last: bool
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class Execute:
    """Run a cell. ``calls`` is False where sub-calls are to be refused: ``limit`` says which limit was met."""

    cell: Cell
    limit: str | None


@dataclass(frozen=True, slots=True)
class Compact:
    """Ask the node's model for a summary of the older part of the conversation."""

    messages: tuple[Message, ...]
    turn: int


@dataclass(frozen=True, slots=True)
class Read:
    name: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The node ends: with an answer (``error`` is None), or without one. ``limit`` is set for a partial answer."""

    answer: PlainValue = None
    limit: str | None = None
    error: RLMError | None = None


Action: TypeAlias = Ask | Compact | Execute | Read | Finish
