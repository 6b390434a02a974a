"""Events and actions of a node: the vocabulary between its table (``core/node.py``) and its driver.

Events are facts in the past tense. Actions are orders.
"""

from __future__ import annotations

from typing import TypeAlias

from rlm.core.cells import Cell, CellResult, PlainValue, Quote
from rlm.core.errors import RLMError
from rlm.core.evidence import Citation
from rlm.core.messages import Message
from rlm.core.values import frozen

# Events.


@frozen
class Started:
    """The REPL is open."""


@frozen
class Replied:
    """``tokens``: the provider's count for the conversation including this reply, or 0 if it gave none."""

    text: str
    tokens: int = 0


@frozen
class AskFailed:
    error: RLMError


@frozen
class LimitMet:
    """A limit of the run forbids the requested turn. One last turn is still possible.

    ``shown_bytes`` is the size of unseen output that the last turn can pay for; None stands for all of it.
    """

    limit: str
    shown_bytes: int | None = None


@frozen
class Executed:
    """``notice``: the line about a low budget that the model sees next, or empty."""

    result: CellResult
    notice: str = ""


@frozen
class Compacted:
    """The requested summary arrived."""

    summary: str


@frozen
class ValueRead:
    value: PlainValue


@frozen
class ValueMissing:
    pass


@frozen
class Validated:
    """An answer was checked against its schema: ``data`` is valid, unless there are ``problems``."""

    data: PlainValue
    problems: tuple[str, ...] = ()


@frozen
class QuotesChecked:
    """The quotes of the answer were looked up in the sources."""

    citations: tuple[Citation, ...]


NodeEvent: TypeAlias = (
    Started
    | Replied
    | AskFailed
    | LimitMet
    | Executed
    | ValueRead
    | ValueMissing
    | Compacted
    | Validated
    | QuotesChecked
)


# Actions.


@frozen
class Ask:
    """Ask the node's model for turn ``turn``.

    The ``last`` turn is paid from the reserve. ``limit`` names the limit that made it the last.
    """

    messages: tuple[Message, ...]
    turn: int
    last: bool
    limit: str | None = None


@frozen
class Execute:
    """Execute a cell. If a ``limit`` was met, its sub-calls are refused."""

    cell: Cell
    limit: str | None


@frozen
class Compact:
    """Ask the node's model for a summary of the older part of the conversation."""

    messages: tuple[Message, ...]
    turn: int


@frozen
class Read:
    name: str


@frozen
class Validate:
    """Check an answer against its schema."""

    value: PlainValue


@frozen
class CheckQuotes:
    """Look up the quotes of the answer in the sources."""

    quotes: tuple[Quote, ...]


@frozen
class Finish:
    """End the node with an answer, or with an error. ``limit`` is set for a partial answer."""

    answer: PlainValue = None
    limit: str | None = None
    error: RLMError | None = None
    citations: tuple[Citation, ...] = ()


Action: TypeAlias = Ask | Compact | Execute | Read | Validate | CheckQuotes | Finish
