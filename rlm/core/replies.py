"""Reads a model's reply: which cells it holds, and whether it gives an answer in text.

A reply is scanned once, line by line. Three things are set apart: thoughts (``<think>``), fenced blocks and prose. Only
prose can hold ``FINAL(...)``, and only at the start of a line; only blocks can be cells. Knows nothing of what follows from it.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TypeAlias

REPL_LANGUAGES = frozenset({"repl"})
# What models write instead of "repl" (facts gathered from public trajectories).
PYTHON_LANGUAGES = frozenset({"python", "py", "python3", "ipython", "tool_code", "repl-python", "python-repl", "pycon"})

FENCE = re.compile(r"[ \t]*(?P<marks>`{3,}|~{3,})[ \t]*(?P<language>[\w+.-]*)(?P<rest>[^\n]*)")
FINAL_LINE = re.compile(r"[ \t]*\**(?P<word>FINAL_VAR|FINAL)[ \t]*\(")
THOUGHT_OPENS = re.compile(r"<(think|thinking|thought|reasoning)>", re.IGNORECASE)
THOUGHT_CLOSES = re.compile(r"</(think|thinking|thought|reasoning)>", re.IGNORECASE)
_LINE_END = re.compile(r"[ \t*.;`]*(?:\n|\Z)")
_STRING = re.compile(
    r"""(?:"{3}(?:\\.|[^\\])*?"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""", re.DOTALL
)
_QUOTED_NAME = re.compile(r"""[\s"'`]*(?P<name>[^\s"'`()]+)[\s"'`]*""")
_PLACEHOLDERS = frozenset({"", "...", "…"})
MAX_FINALS = 20  # each may be read to the end of the reply: a bound on the work that a strange reply can cause


@dataclass(frozen=True, slots=True)
class FinalText:
    """``FINAL(...)``: the answer itself. ``name`` is set where the text is a bare name, quotes apart: it may be a variable."""

    text: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class FinalVariable:
    """``FINAL_VAR(name)``: the answer is the value of a variable."""

    name: str


Final: TypeAlias = FinalText | FinalVariable


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """``prose`` is the reply without thoughts and blocks.

    ``heard_chars`` is where the part of the reply ends that its conversation keeps: a model that goes on after its last cell
    tells of output that it has not seen, and would believe it later. All cells of a reply run, in order; text after an answer
    is kept.
    """

    cells: tuple[str, ...]
    final: Final | None
    prose: str
    heard_chars: int


@dataclass(frozen=True, slots=True)
class _Block:
    language: str
    code: str
    end: int


@dataclass(slots=True)
class _Scan:
    blocks: list[_Block]
    prose: list[str]
    final: Final | None = None
    finals_tried: int = 0

    def forget(self) -> None:
        """What came before a closing thought tag without an opening one was a thought."""
        self.blocks.clear()
        self.prose.clear()
        self.final = None


def parse_reply(text: str) -> ParsedReply:
    """The cells of a reply, in order, and the answer it gives in text, if any."""
    scan = _Scan([], [])
    position = 0
    while position < len(text):
        position = _scan_line(text, position, scan)
    cells = _choose_cells(scan)
    heard = cells[-1].end if cells and not scan.final else len(text)
    return ParsedReply(tuple(cell.code for cell in cells), scan.final, "\n".join(scan.prose).strip(), heard)


def _scan_line(text: str, start: int, scan: _Scan) -> int:
    """Takes in what begins at ``start`` (the start of a line, or what follows a thought) and returns where it ends."""
    end = _line_end(text, start)
    fence = FENCE.match(text, start, end)
    if fence and "`" not in fence["rest"]:
        return _take_block(text, fence, scan)
    final = FINAL_LINE.match(text, start, end)
    if final and scan.finals_tried < MAX_FINALS:
        scan.finals_tried += 1
        if found := _take_final(text, final):
            scan.final = scan.final or found[0]
            return found[1]
    opens, closes = THOUGHT_OPENS.search(text, start, end), THOUGHT_CLOSES.search(text, start, end)
    if opens and not (closes and closes.start() < opens.start()):
        scan.prose.append(text[start : opens.start()])
        closing = THOUGHT_CLOSES.search(text, opens.end())
        return closing.end() if closing else len(text)
    if closes:
        scan.forget()
        return closes.end()
    scan.prose.append(text[start:end])
    return end + 1


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _take_block(text: str, opening: re.Match[str], scan: _Scan) -> int:
    """Reads a block to its closing fence, or to the end of the reply: a stop text may have taken the fence away."""
    marks, language = opening["marks"], opening["language"].lower()
    lines: list[str] = []
    position = _line_end(text, opening.start()) + 1
    while position < len(text):
        end = _line_end(text, position)
        fence = FENCE.match(text, position, end)
        if fence and fence["marks"][0] == marks[0] and len(fence["marks"]) >= len(marks):
            if not fence["language"] and not fence["rest"].strip():
                scan.blocks.append(_Block(language, "\n".join(lines), end))
                return end + 1
            nested = language not in REPL_LANGUAGES and fence["language"].lower() in REPL_LANGUAGES
            if nested and not "".join(lines).strip():
                return _take_block(text, fence, scan)  # a repl block right inside another fence
        lines.append(text[position:end])
        position = end + 1
    scan.blocks.append(_Block(language, "\n".join(lines), len(text)))
    return len(text)


def _choose_cells(scan: _Scan) -> tuple[_Block, ...]:
    """The blocks that are meant to run: those marked repl, else python, else unmarked ones beside no answer."""
    for languages in (REPL_LANGUAGES, PYTHON_LANGUAGES):
        cells = tuple(block for block in scan.blocks if block.language in languages and block.code.strip())
        if cells:
            return cells
    if scan.final:
        return ()
    return tuple(block for block in scan.blocks if not block.language and block.code.strip())


def _take_final(text: str, opening: re.Match[str]) -> tuple[Final, int] | None:
    """Reads the argument of FINAL or FINAL_VAR. None when it is a mention or is never closed."""
    start = opening.end()
    string = _string_argument(text, start)
    if string is not None:
        argument, end = string
    else:
        closing = _closing_parenthesis(text, start)
        if closing is None:
            return None
        argument, end = text[start:closing].strip(), closing + 1
    if argument in _PLACEHOLDERS:
        return None
    end = _line_end(text, end) + 1
    if opening["word"] == "FINAL":
        name = argument if string is None and argument.isidentifier() else None
        return FinalText(argument, name), end
    name_match = _QUOTED_NAME.fullmatch(argument)
    return FinalVariable(name_match["name"] if name_match else argument), end


def _string_argument(text: str, start: int) -> tuple[str, int] | None:
    """The argument where it is one Python string literal, and where its line of FINAL ends."""
    while start < len(text) and text[start].isspace():
        start += 1
    literal = _STRING.match(text, start)
    if not literal:
        return None
    closing = re.compile(r"\s*,?\s*\)").match(text, literal.end())
    if not closing or not _LINE_END.match(text, closing.end()):
        return None
    try:
        value = ast.literal_eval(literal[0])
    except (ValueError, SyntaxError):
        value = literal[0][1:-1]
    return str(value).strip(), closing.end()


def _closing_parenthesis(text: str, start: int) -> int | None:
    """Where the argument ends: the balancing parenthesis, which must also end its line.

    A balancing one inside a line ("an emoticon :) and more)") counts as text if that same line ends in another one; else the
    whole is a mention of FINAL in a sentence. Text with an opening one too many is closed by the end of the reply.
    """
    depth, position = 1, start
    line_limit = len(text)
    while position < line_limit:
        character = text[position]
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth <= 0:
                if _LINE_END.match(text, position + 1):
                    return position
                depth, line_limit = 1, _line_end(text, position)
        position += 1
    stripped = len(text.rstrip())
    if line_limit == len(text) and stripped > start and text[stripped - 1] == ")":
        return stripped - 1
    return None
