"""States of a node, and its question with its limits."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from rlm.core.endings import CutRule
from rlm.core.messages import Message
from rlm.core.values import frozen


class State(Enum):
    NEW = "new"
    ASKING = "asking"
    COMPACTING = "compacting"
    EXECUTING = "executing"
    READING = "reading"
    CHECKING = "checking"
    DONE = "done"


@frozen
class NodeSpec:
    """Question and limits of a node.

    ``context`` describes the input in one line, ``first_lines`` shows the start of its documents. ``window_tokens`` is the
    model's context window; with 0 the conversation is never compacted. ``cut_replies`` is the rule that ends its replies.
    ``checks_quotes`` is set if its answer has citations.

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
