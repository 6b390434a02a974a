"""States of a node, its question with its limits, and its complete state."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from rlm.core.actions import Finish
from rlm.core.cells import Cell, CellResult, PlainValue, Quote, Variable
from rlm.core.endings import CutRule
from rlm.core.messages import Message
from rlm.core.replies import Final
from rlm.core.values import frozen


class State(Enum):
    NEW = "new"
    ASKING = "asking"
    COMPACTING = "compacting"
    EXECUTING = "executing"
    READING = "reading"
    VALIDATING = "validating"
    CHECKING = "checking"
    DONE = "done"


@frozen
class NodeSpec:
    """Question and limits of a node.

    ``context`` describes the input in one line, ``first_lines`` shows the start of its documents. ``window_tokens`` is the
    model's context window; with 0 the conversation is never compacted. ``cut_replies`` is the rule that ends its replies.
    ``checks_quotes`` is set if its answer has citations.
    ``answer_outline`` is the short form of the schema of its answer; empty if any answer will do.

    ``earlier`` is the conversation of earlier questions of a session, with ``earlier_turns`` turns, which ``max_turns`` includes.
    ``earlier_output`` is what their last cells showed.
    """

    question: str
    context: str
    system: str
    max_turns: int
    observation_chars: int
    window_tokens: int = 0
    cut_replies: CutRule = "invented"
    checks_quotes: bool = False
    first_lines: Sequence[tuple[str, str]] = ()
    earlier: tuple[Message, ...] = ()
    earlier_turns: int = 0
    earlier_output: str = ""
    answer_outline: str = ""


@frozen
class Node:
    """Complete state of a node. ``messages`` only grows at its end, unless it is compacted near the model's window.

    ``pending`` and ``executed`` are the cells of the current turn. ``final`` is the answer that the current reply gives in
    text; it counts once the cells have run. ``limit`` is set as soon as a limit is met. The first ``counted`` messages have
    ``counted_tokens``, by the provider's count. ``variables`` are those after the last cell. ``shortened`` is set if the
    last turn's newest message was cut to the budget, ``shrunk`` counts how often the provider found the
    conversation too long.

    ``quotes`` are those of its cells, ``cited`` those of the answer in question. ``proposed`` is the answer whose form or
    quotes are checked. ``returned`` is the answer that
    was shown to the model again, because quotes were not found; it counts if no other answer follows.
    """

    spec: NodeSpec
    state: State = State.NEW
    messages: tuple[Message, ...] = ()
    turn: int = 0
    pending: tuple[Cell, ...] = ()
    executed: tuple[tuple[Cell, CellResult], ...] = ()
    final: Final | None = None
    prose: str = ""
    stumbles: int = 0
    limit: str | None = None
    counted: int = 0
    counted_tokens: int = 0
    variables: tuple[Variable, ...] = ()
    notice: str = ""
    shortened: bool = False
    shrunk: int = 0
    quotes: tuple[Quote, ...] = ()
    cited: tuple[Quote, ...] = ()
    proposed: PlainValue = None
    returned: Finish | None = None
