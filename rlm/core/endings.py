"""Where a reply ends that goes on after its cells: what a model tells of output it has not seen is cut away, never believed.

The same rule for a reply that is whole and for one that still arrives, so that a turn does not depend on how it was sent. Three
rules to choose from:

- ``"invented"``: cells in a row are one turn, with or without prose between them. The reply ends where, after a complete
  cell, it goes on with output that nobody has seen: an "Output:", a block that quotes some, the forms of our observations, a
  speaker's name, a prompt of a console. What it concluded from that, answers included, was concluded from nothing.
- ``"first_cell"``: the reply ends with its first complete cell, so that the output of each is seen before the next is written.
- ``"never"``: the reply is taken as it is.

A line that begins with FINAL ends the search: the rest is the answer. Knows nothing of streams, nor of what a turn becomes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

from rlm.core.messages import Message
from rlm.core.replies import FENCE, FINAL_LINE, PYTHON_LANGUAGES, REPL_LANGUAGES, THOUGHT_CLOSES, THOUGHT_OPENS

CutRule: TypeAlias = Literal["invented", "first_cell", "never"]

_RUNNABLE = REPL_LANGUAGES | PYTHON_LANGUAGES
_QUOTES = frozenset(
    {"", "output", "outputs", "text", "txt", "plaintext", "stdout", "console", "log", "result", "results"}
)
# Decided by the beginning of a line, so that it needs not be complete: a longer line never matches less.
_INVENTED = re.compile(
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
_MOST_LINE_CHARS = 200  # what begins a line is looked at no further than this while the line is incomplete
# Models whose replies may begin inside a thought that nothing opens, where their server does not take thoughts away.
_THINKS_ALOUD = re.compile(r"(^|[^a-z0-9])(r1|qwq|qwen3|magistral)([^a-z0-9]|$)|think|reason", re.IGNORECASE)


class EndFinder:
    """Finds the end of one reply as it arrives.

    Args:
        rule: see above.
        thinking: the reply begins inside a thought that it does not open.

    Attributes:
        end: how many characters of the reply count; None while that is not known, or where all of it do.
    """

    def __init__(self, rule: CutRule, *, thinking: bool = False) -> None:
        self.end: int | None = None
        self._rule = rule
        self._over = rule == "never"
        self._line: list[str] = []  # the pieces of an incomplete one
        self._line_chars = 0
        self._line_at = 0
        self._thinking = thinking
        self._block: re.Match[str] | None = None  # its opening fence
        self._block_is_empty = True
        self._cell_seen = self._just_seen = False

    def feed(self, piece: str) -> int | None:
        """Takes more of the reply; returns ``end``."""
        if self._over:
            return self.end
        if "\n" in piece:
            *lines, piece = ("".join(self._line) + piece).split("\n")
            self._line, self._line_chars = [], 0
            for line in lines:
                self._take_line(line)
                if self._over:
                    return self.end
                self._line_at += len(line) + 1
        self._line.append(piece)
        self._line_chars += len(piece)
        if self._cell_seen and self._block is None and not self._thinking and self._line_chars < _MOST_LINE_CHARS:
            self._look_for_invention("".join(self._line))
        return self.end

    def close(self) -> int | None:
        """The reply is complete: its last line is, too."""
        if not self._over:
            self._take_line("".join(self._line))
            self._over = True
        return self.end

    def _take_line(self, line: str) -> None:
        if self._block is not None:
            self._take_code(line, self._block)
            return
        at = 0
        while at <= len(line) and not self._over:
            if self._thinking:
                closes = THOUGHT_CLOSES.search(line, at)
                if closes is None:
                    return
                self._thinking, at = False, closes.end()
                continue
            at = self._take_prose(line, at)

    def _take_prose(self, line: str, at: int) -> int:
        """Takes what stands outside code and thoughts from ``at`` on; returns where it ends."""
        fence = FENCE.match(line, at)
        if fence and "`" not in fence["rest"]:
            self._open_block(fence, self._line_at + at)
            return len(line) + 1
        if FINAL_LINE.match(line, at):
            self._over = True
            return len(line)
        if at == 0:
            self._look_for_invention(line)
        opens, closes = THOUGHT_OPENS.search(line, at), THOUGHT_CLOSES.search(line, at)
        if opens and not (closes and closes.start() < opens.start()):
            self._thinking = True
            return opens.end()
        if closes:  # all before it was a thought that nothing opened
            self._cell_seen = self._just_seen = False
            return closes.end()
        self._just_seen = self._just_seen and not line[at:].strip()
        return len(line) + 1

    def _look_for_invention(self, line: str) -> None:
        if self._cell_seen and self._rule == "invented" and _INVENTED.match(line):
            self._stop(self._line_at)

    def _open_block(self, fence: re.Match[str], at: int) -> None:
        """After a cell, a block that quotes output; right after it, any that is no cell."""
        language = fence["language"].lower()
        quotes = language in _QUOTES or (self._just_seen and language not in _RUNNABLE)
        if self._cell_seen and self._rule == "invented" and quotes:
            self._stop(at)
        self._block, self._block_is_empty = fence, True

    def _take_code(self, line: str, opening: re.Match[str]) -> None:
        """The rules by which ``parse_reply`` reads a block."""
        language, fence = opening["language"].lower(), FENCE.match(line)
        if fence and fence["marks"][0] == opening["marks"][0] and len(fence["marks"]) >= len(opening["marks"]):
            if not fence["language"] and not fence["rest"].strip():
                self._block = None
                if language in _RUNNABLE and not self._block_is_empty:
                    self._cell_seen = self._just_seen = True
                    if self._rule == "first_cell":
                        self._stop(self._line_at + len(line))
                return
            if self._block_is_empty and language not in REPL_LANGUAGES and fence["language"].lower() in REPL_LANGUAGES:
                self._block = fence
                return
        self._block_is_empty = self._block_is_empty and not line.strip()

    def _stop(self, at: int) -> None:
        self.end, self._over = at, True


def find_end(text: str, rule: CutRule) -> int:
    """How many characters of a whole reply count."""
    if rule == "never":
        return len(text)
    finder = EndFinder(rule, thinking=_closes_unopened(text))
    finder.feed(text)
    end = finder.close()
    return len(text) if end is None else end


def thinks_aloud(model: str, messages: Sequence[Message]) -> bool:
    """Whether the next reply may begin inside a thought that it does not open: its earlier ones tell, else its model's name."""
    said = [message.content for message in messages if message.role == "assistant"]
    return any(map(_closes_unopened, said)) if said else _THINKS_ALOUD.search(model) is not None


def _closes_unopened(text: str) -> bool:
    closes = THOUGHT_CLOSES.search(text)
    opens = THOUGHT_OPENS.search(text) if closes else None
    return closes is not None and (opens is None or closes.start() < opens.start())
