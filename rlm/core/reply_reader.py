"""Reads a model's reply line by line: prose, code blocks, thoughts, and lines that begin an answer.

One reader serves ``replies.py``, which has the whole reply, and ``endings.py``, which reads it while it streams. It knows the
marks of the model families and nothing of turns or answers.

Model text is hostile input. Every pattern is bounded or consumes what it matches, so the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import field
from typing import NamedTuple, TypeAlias

from rlm.core.patterns import lazy_pattern
from rlm.core.values import slotted

REPL_LANGUAGES = frozenset({"repl"})
# The languages that models write in place of "repl", from public trajectories.
PYTHON_LANGUAGES = frozenset({"python", "py", "python3", "ipython", "tool_code", "repl-python", "python-repl", "pycon"})
RUNNABLE_LANGUAGES = REPL_LANGUAGES | PYTHON_LANGUAGES

_FENCE = lazy_pattern(r"[ \t]*(?P<marks>`{3,}|~{3,})[ \t]*(?P<language>[\w+.-]*)")
_FINAL = lazy_pattern(r"[ \t]*\**(?P<word>FINAL_VAR|FINAL)[ \t]*\(")

# Control tokens that some servers leave in the text: <|im_end|>, <|eot_id|>, </s>, <end_of_turn>, <｜end▁of▁sentence｜> ...
CONTROL_TOKEN = lazy_pattern(
    r"<[|｜][^|｜<>\n]{1,40}[|｜]>|</?s>|</?(?:eos|bos|start_of_turn|end_of_turn|end_of_utterance)>"
)
_MAX_TOKEN_CHARS = 44

# Marks of thoughts: XML tags, [THINK] (Mistral), ◁think▷ (Kimi), <|START_THINKING|> (Cohere), channels (harmony).
_TAG = r"(?:antml:|seed:)?(?:think|thinking|thoughts?|reasoning|analysis|reflection|scratchpad|antthinking)"
_CLOSES = rf"</{_TAG}\s{{0,9}}>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING)\|>"
_CHANNEL = r"(?:<\|start\|>\s{0,9}assistant\s{0,9})?<\|channel\|>\s{0,9}"
_MESSAGE = r"\b[^<\n]{0,80}(?:<\|constrain\|>[^<\n]{0,80})?<\|message\|>"
_THOUGHT_MARK = lazy_pattern(
    rf"""(?P<opens><{_TAG}(?:\s[^<>\n/]{{0,80}})?>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING)\|>)
      | (?P<closes>{_CLOSES})
      | (?P<channel_opens>{_CHANNEL}analysis{_MESSAGE})
      | (?P<channel_closes>{_CHANNEL}final{_MESSAGE})
      | (?P<channel>{_CHANNEL}commentary{_MESSAGE})""",
    re.IGNORECASE | re.VERBOSE,
)
_THOUGHT_END = lazy_pattern(rf"{_CLOSES}|{_CHANNEL}final{_MESSAGE}", re.IGNORECASE)
_CHANNEL_END = lazy_pattern(rf"{_CHANNEL}(?:final|commentary){_MESSAGE}|<\|(?:end|return|call)\|>", re.IGNORECASE)

_PROSE_MARK = lazy_pattern(r"[<\[◁`~]|FINAL")  # a line without any of these is prose and nothing more
_STRING_OR_COMMENT = lazy_pattern(r"""#|\"{3}|'{3}|"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?""")
_STRING_END = {quote: lazy_pattern(rf"(?:\\.|[^\\])*?{quote}") for quote in ('"""', "'''")}


@slotted
class Block:
    """A fenced block. ``end`` is the offset behind its closing fence, or None if the reply ends first."""

    language: str
    marks: str
    start: int
    end: int | None = None
    lines: list[str] = field(default_factory=list)
    is_empty: bool = True

    @property
    def code(self) -> str:
        return "\n".join(self.lines)

    def add(self, line: str) -> None:
        self.lines.append(line.removesuffix("\r"))
        self.is_empty = self.is_empty and (not line or line.isspace())


class LineOpened(NamedTuple):
    """A complete line that begins outside blocks and thoughts; the marks in it follow."""

    line: str
    start: int


class Prose(NamedTuple):
    """A line outside blocks and thoughts, or the part of it that a thought leaves."""

    text: str


class BlockOpened(NamedTuple):
    block: Block


class BlockClosed(NamedTuple):
    block: Block


class UnopenedThoughtClosed(NamedTuple):
    """The end of a thought that the reply never opened: all text before it was thought."""


class FinalOpened(NamedTuple):
    """``FINAL(`` or ``FINAL_VAR(`` at the start of a line. ``argument`` is the offset behind the parenthesis."""

    word: str
    argument: int


Mark: TypeAlias = LineOpened | Prose | BlockOpened | BlockClosed | UnopenedThoughtClosed | FinalOpened
_Reading: TypeAlias = Generator[Mark, None, int]


class ReplyReader:
    """Turns the lines of one reply into marks.

    Args:
        in_thought: the reply begins inside a thought that it does not open.
    """

    def __init__(self, *, in_thought: bool = False) -> None:
        self._block: Block | None = None
        self._thought_end: re.Pattern[str] | None = _THOUGHT_END if in_thought else None
        self._has_channels = False
        self._skip_to = 0
        self._strings = _OpenString()

    @property
    def in_prose(self) -> bool:
        """The next line is outside blocks and thoughts."""
        return self._block is None and self._thought_end is None

    def skip_to(self, offset: int) -> None:
        """Ignores the lines before ``offset``: an answer has consumed them."""
        self._skip_to = offset

    def read(self, line: str, start: int) -> Iterable[Mark]:
        """Returns the marks of a complete line, without its line end, that starts at offset ``start`` of the reply."""
        if start < self._skip_to:
            return ()
        if self._block is not None:
            if not self._strings.is_active and not _can_end_code(line):
                self._block.add(line)
                return ()
        elif self._thought_end is None and not _PROSE_MARK.search(line):
            return (LineOpened(line, start), Prose(line))
        return self._read(line, start)

    def _read(self, line: str, start: int) -> Iterator[Mark]:
        at, last_tick = 0, line.rfind("`")
        if self.in_prose:
            yield LineOpened(line, start)
        while start >= self._skip_to and at <= len(line):
            if self._block is not None:
                at = yield from self._read_code(self._block, line, start)
            elif self._thought_end is not None:
                closing = self._thought_end.search(line, at)
                if closing is None:
                    return
                self._thought_end, at = None, closing.end()
            else:
                at = yield from self._read_prose(line, at, start, last_tick)

    def finish(self) -> Iterator[Mark]:
        """Yields the marks that only the end of the reply decides.

        A string that never closes hides no fence: the block ends at the first fence in it, and the rest is read again.
        """
        if self._block is not None and self._strings.hidden:
            hidden, self._strings = self._strings.hidden, _OpenString(enabled=False)
            del self._block.lines[-len(hidden) :]
            for line, start in hidden:
                yield from self.read(line, start)
        if self._block is not None:
            yield BlockClosed(self._block)
            self._block = None

    def _read_prose(self, line: str, at: int, start: int, last_tick: int) -> _Reading:
        """Reads what is outside blocks and thoughts from ``at`` on; returns the offset in the line at which it ends."""
        while (token := CONTROL_TOKEN.match(line, at)) and not _THOUGHT_MARK.match(line, at):
            at = token.end()
        fence = _FENCE.match(line, at)
        if fence and last_tick < fence.end():
            self._block = Block(fence["language"].lower(), fence["marks"], start + at)
            yield BlockOpened(self._block)
            return len(line) + 1
        if final := _FINAL.match(line, at):
            yield FinalOpened(final["word"], start + final.end())
            if start < self._skip_to:
                return len(line) + 1
        mark = _THOUGHT_MARK.search(line, at)
        if mark is None:
            yield Prose(line[at : content_end(line)])
            return len(line) + 1
        yield from self._pass_thought_mark(mark, line[at : mark.start()])
        return mark.end()

    def _pass_thought_mark(self, mark: re.Match[str], before: str) -> Iterator[Mark]:
        kind = mark.lastgroup
        if kind == "closes" or (kind == "channel_closes" and not self._has_channels):
            yield UnopenedThoughtClosed()
            return
        yield Prose(before)
        if kind == "opens":
            self._thought_end = _THOUGHT_END
        elif kind == "channel_opens":
            self._thought_end = _CHANNEL_END
        self._has_channels = self._has_channels or kind != "opens"

    def _read_code(self, block: Block, line: str, start: int) -> _Reading:
        """Reads one line of a block; returns the offset in the line from which prose goes on."""
        fence = _FENCE.match(line)
        if fence and (fence["marks"][0] != block.marks[0] or len(fence["marks"]) < len(block.marks)):
            fence = None
        end = _closing_end(line, fence) if fence else None
        if fence and not self._strings.is_open:
            if end is not None:
                block.end, self._block = start + end, None
                self._strings.hidden.clear()
                yield BlockClosed(block)
                return end if CONTROL_TOKEN.match(line, end) else len(line) + 1
            language = fence["language"].lower()
            if block.is_empty and block.language not in REPL_LANGUAGES and language in REPL_LANGUAGES:
                self._block = Block(language, fence["marks"], start)  # a repl block right inside another one
                return len(line) + 1
        if self._strings.hidden or end is not None:
            self._strings.hidden.append((line, start))
        if block.language in RUNNABLE_LANGUAGES:
            self._strings.pass_line(line)
        block.add(line)
        return len(line) + 1


class _OpenString:
    """Follows triple-quoted strings through the lines of a block: a fence inside one is text.

    ``hidden`` has the lines, with their offsets, from the first fence inside the open string on.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.hidden: list[tuple[str, int]] = []
        self._enabled = enabled
        self._quote: str | None = None

    @property
    def is_active(self) -> bool:
        """The next line matters, whatever its text."""
        return self._quote is not None or bool(self.hidden)

    @property
    def is_open(self) -> bool:
        return self._quote is not None

    def pass_line(self, line: str) -> None:
        if not self._enabled or (self._quote is None and '"""' not in line and "'''" not in line):
            return
        at = 0
        while True:
            if self._quote is not None:
                end = _STRING_END[self._quote].match(line, at)
                if end is None:
                    return
                self._quote, at = None, end.end()
            token = _STRING_OR_COMMENT.search(line, at)
            if token is None or token[0] == "#":
                return
            at = token.end()
            if token[0] in _STRING_END:
                self._quote = token[0]


def _can_end_code(line: str) -> bool:
    """Returns False for a line of code that neither ends its block nor starts a long string, as most lines are."""
    return "```" in line or "~~~" in line or '"""' in line or "'''" in line


def _closing_end(line: str, fence: re.Match[str]) -> int | None:
    """Returns the offset at which a closing fence ends, or None if the line is not one."""
    if fence["language"]:
        return None
    if CONTROL_TOKEN.match(line, fence.end()):
        return fence.end()
    end = content_end(line)
    return None if line[fence.end() : end].strip() else end


def content_end(text: str) -> int:
    """Returns the length of ``text`` without the control tokens at its end."""
    length = len(text)
    while True:
        end = length
        while end and text[end - 1].isspace():
            end -= 1
        opening = text.rfind("<", max(0, end - _MAX_TOKEN_CHARS), end)
        if opening < 0 or not CONTROL_TOKEN.fullmatch(text, opening, end):
            return length
        length = opening


def closes_unopened_thought(text: str) -> bool:
    """Detects a reply that begins inside a thought: the first mark of one in it closes it."""
    mark = _THOUGHT_MARK.search(text)
    return mark is not None and mark.lastgroup in {"closes", "channel_closes"}
