"""Parses a model's reply: the cells in it, and the answer that it gives in text.

Only prose can hold ``FINAL(...)``, and only at the start of a line. Only blocks can be cells. Thoughts are neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rlm.core.final_text import Final, FinalText, FinalVariable, read_final
from rlm.core.reply_reader import (
    PYTHON_LANGUAGES,
    REPL_LANGUAGES,
    Block,
    BlockClosed,
    BlockOpened,
    FinalOpened,
    LineOpened,
    Mark,
    Prose,
    ReplyReader,
    UnopenedThoughtClosed,
    content_end,
)
from rlm.core.values import frozen

__all__ = ["Final", "FinalText", "FinalVariable", "ParsedReply", "parse_reply"]

MAX_FINALS = 20  # each can be read to the end of the reply; this bounds the work


@frozen
class ParsedReply:
    """The parts of a reply. All its cells run, in order.

    ``prose`` is the reply without thoughts and blocks. ``retained_chars`` is the length of the part that its conversation
    retains. Text after the last cell describes output that the model has not seen, and is dropped unless it is an answer.
    """

    cells: tuple[str, ...]
    final: Final | None
    prose: str
    retained_chars: int


def parse_reply(text: str) -> ParsedReply:
    """Returns the cells of a complete reply, in order, and the answer that it gives in text."""
    text = text[: content_end(text)]
    parser = _Parser(text)
    start = 0
    for line in text.split("\n"):
        parser.take(parser.reader.read(line, start))
        start += len(line) + 1
    parser.take(parser.reader.finish())
    cells, final = choose_cells(parser.blocks, has_answer=parser.final is not None), parser.final
    end = cells[-1].end if cells and not final else None
    prose = "\n".join(parser.prose).strip()
    return ParsedReply(tuple(cell.code for cell in cells), final, prose, len(text) if end is None else end)


def choose_cells(blocks: Sequence[Block], *, has_answer: bool) -> list[Block]:
    """Returns the blocks to run: those marked repl, otherwise python, otherwise unmarked ones beside no answer."""
    blocks = [block for block in blocks if not block.is_empty]
    for languages in (REPL_LANGUAGES, PYTHON_LANGUAGES):
        if cells := [block for block in blocks if block.language in languages]:
            return cells
    return [] if has_answer else [block for block in blocks if not block.language]


class _Parser:
    """Collects the marks of one reply. The first answer counts."""

    def __init__(self, text: str) -> None:
        self.reader = ReplyReader()
        self.blocks: list[Block] = []
        self.prose: list[str] = []
        self.final: Final | None = None
        self._text = text
        self._finals_left = MAX_FINALS

    def take(self, marks: Iterable[Mark]) -> None:
        for mark in marks:
            match mark:
                case Prose(text):
                    self.prose.append(text)
                case BlockClosed(block):
                    self.blocks.append(block)
                case FinalOpened():
                    self._take_final(mark)
                case UnopenedThoughtClosed():
                    self.blocks.clear()
                    self.prose.clear()
                    self.final = None
                case BlockOpened() | LineOpened():
                    pass

    def _take_final(self, mark: FinalOpened) -> None:
        if not self._finals_left:
            return
        self._finals_left -= 1
        if answer := read_final(self._text, mark.argument, mark.word):
            self.final = self.final or answer[0]
            self.reader.skip_to(answer[1])
