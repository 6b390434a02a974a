"""Finds the end of a reply that goes on after its cells, and cuts output that the model invents.

The rule is the same for a complete reply and for one that still streams, so that streaming never changes a turn:

- ``"invented"``: cells in a row are one turn, with or without prose between them. The reply ends at the first output
  that it invents after a complete cell. Signs are an "Output:", a quoting block, the form of an observation, a speaker's
  name and a console prompt. Conclusions from invented output are cut with it, answers included.
- ``"first_cell"``: the reply ends with its first complete cell, so that the model sees its output before it writes the next.
- ``"never"``: the reply counts as it is.

A line that begins with FINAL ends the search: the rest is the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from rlm.core.messages import Message
from rlm.core.patterns import lazy_pattern
from rlm.core.reply_reader import (
    RUNNABLE_LANGUAGES,
    Block,
    BlockClosed,
    BlockOpened,
    FinalOpened,
    LineOpened,
    Mark,
    Prose,
    ReplyReader,
    UnopenedThoughtClosed,
    closes_unopened_thought,
)

CutRule: TypeAlias = Literal["invented", "first_cell", "never"]

_QUOTES = frozenset(
    {"", "output", "outputs", "text", "txt", "plaintext", "stdout", "console", "log", "result", "results"}
)
# The beginning of a line decides, so an incomplete line can be judged: a longer one never matches less.
_INVENTED = lazy_pattern(
    r"""[ \t>*_\#(]*(?:
        \[(?:cell[ ]\d|variables\][ ]|no[ ]output\]|stderr\][ ]|stdout\][ ])
      | (?:(?:the|repl|code|cell|execution|program|printed|console|python|actual|script)(?:'s)?[ \t]+){0,3}
        (?:output|observation|stdout|result)s?\b[^\n:]{0,30}:
      | (?:user|human|assistant|system|tool|ipython)[ \t]*[*_]*:
      | <\|
      | >>>[ ]
      | (?:In|Out)[ ]?\[\d*\]:
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_MAX_INCOMPLETE_CHARS = 200  # an incomplete line is judged up to this length, so that small pieces cost little
# Models whose replies can begin inside a thought that nothing opens, unless their server removes thoughts.
_STARTS_IN_THOUGHT = lazy_pattern(r"(^|[^a-z0-9])(r1|qwq|qwen3|magistral)([^a-z0-9]|$)|think|reason", re.IGNORECASE)


class EndFinder:
    """Finds the end of one reply as it streams.

    Args:
        rule: one of the rules above.
        thinking: the reply begins inside a thought that it does not open.

    Attributes:
        end: the number of characters that count; None while unknown, or if all of them do.
    """

    def __init__(self, rule: CutRule, *, thinking: bool = False) -> None:
        self.end: int | None = None
        self._rule = rule
        self._is_over = rule == "never"
        self._reader = ReplyReader(in_thought=thinking)
        self._line: list[str] = []  # the pieces of the incomplete line
        self._line_chars = 0
        self._line_start = 0
        self._after_cell = False
        self._right_after_cell = False  # with nothing but blank lines between

    def feed(self, piece: str) -> int | None:
        """Takes more of the reply; returns ``end``."""
        if self._is_over:
            return self.end
        if "\n" in piece:
            *lines, piece = ("".join(self._line) + piece).split("\n")
            self._line, self._line_chars = [], 0
            for line in lines:
                self._take_marks(self._reader.read(line, self._line_start))
                if self._is_over:
                    return self.end
                self._line_start += len(line) + 1
        self._line.append(piece)
        self._line_chars += len(piece)
        if self._after_cell and self._reader.in_prose and self._line_chars < _MAX_INCOMPLETE_CHARS:
            self._cut_invention("".join(self._line), self._line_start)
        return self.end

    def close(self) -> int | None:
        """Takes the end of the reply, which also completes its last line; returns ``end``."""
        if not self._is_over:
            self._take_marks(self._reader.read("".join(self._line), self._line_start))
        if not self._is_over:
            self._take_marks(self._reader.finish())
        self._is_over = True
        return self.end

    def _take_marks(self, marks: Iterable[Mark]) -> None:
        for mark in marks:
            match mark:
                case LineOpened(line, start):
                    self._cut_invention(line, start)
                case BlockOpened(block):
                    self._open_block(block)
                case BlockClosed(block):
                    self._close_block(block)
                case FinalOpened():
                    self._is_over = True
                case UnopenedThoughtClosed():
                    self._after_cell = self._right_after_cell = False
                case Prose(text):
                    self._right_after_cell = self._right_after_cell and not text.strip()
            if self._is_over:
                return

    def _open_block(self, block: Block) -> None:
        """Cuts at a block that quotes output: by its language, or right after a cell any that is not code."""
        if not self._after_cell or self._rule != "invented":
            return
        if block.language in _QUOTES or (self._right_after_cell and block.language not in RUNNABLE_LANGUAGES):
            self._stop(block.start)

    def _close_block(self, block: Block) -> None:
        if block.end is None or block.is_empty or block.language not in RUNNABLE_LANGUAGES:
            return
        self._after_cell = self._right_after_cell = True
        if self._rule == "first_cell":
            self._stop(block.end)

    def _cut_invention(self, line: str, start: int) -> None:
        if self._after_cell and self._rule == "invented" and _INVENTED.match(line):
            self._stop(start)

    def _stop(self, end: int) -> None:
        self.end, self._is_over = end, True


def find_end(text: str, rule: CutRule) -> int:
    """Returns the number of characters of a complete reply that count."""
    if rule == "never":
        return len(text)
    finder = EndFinder(rule, thinking=closes_unopened_thought(text))
    finder.feed(text)
    end = finder.close()
    return len(text) if end is None else end


def thinks_aloud(model: str, messages: Sequence[Message]) -> bool:
    """Predicts a reply that begins inside an unopened thought, from earlier replies or from the model's name."""
    replies = [message.text for message in messages if message.role == "assistant"]
    if replies:
        return any(map(closes_unopened_thought, replies))
    return _STARTS_IN_THOUGHT.search(model) is not None
