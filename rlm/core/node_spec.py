"""States of a node, and its question with its limits."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from rlm.core.endings import CutRule
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
