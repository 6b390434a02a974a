"""Reads ``FINAL(...)`` and ``FINAL_VAR(...)`` in the text of a reply: balanced parentheses, quotes, several lines."""

from __future__ import annotations

import ast
import re
from typing import TypeAlias

from rlm.core.patterns import lazy_pattern
from rlm.core.reply_reader import CONTROL_TOKEN
from rlm.core.values import frozen

_LINE_END = lazy_pattern(rf"[ \t\r*.;`]*(?:\n|\Z|{CONTROL_TOKEN.pattern})")
_STRING = lazy_pattern(
    r"""\s*(?P<literal>"{3}(?:\\.|[^\\])*?"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')""",
    re.DOTALL,
)
_STRING_CLOSES = lazy_pattern(r"\s*(?:,\s*)?\)")
_PARENTHESIS = lazy_pattern(r"[()]")
_QUOTED_NAME = lazy_pattern(r"""[\s"'`]*(?P<name>[^\s"'`()]+)[\s"'`]*""")
_PLACEHOLDERS = frozenset({"", "...", "…"})


@frozen
class FinalText:
    """``FINAL(...)``: the answer itself. ``name`` is set if the text is a bare name, which can be a variable's."""

    text: str
    name: str | None = None


@frozen
class FinalVariable:
    """``FINAL_VAR(name)``: the answer is the value of a variable."""

    name: str


Final: TypeAlias = FinalText | FinalVariable


def read_final(text: str, start: int, word: str) -> tuple[Final, int] | None:
    """Reads the argument of ``word`` that starts at ``start``.

    Returns:
        The answer and the start of the line after it, or None for a mention, a placeholder and an open parenthesis.
    """
    quoted = _quoted_argument(text, start)
    argument, end = quoted or _plain_argument(text, start) or ("", start)
    if argument in _PLACEHOLDERS:
        return None
    end = _line_end(text, end) + 1
    if word == "FINAL":
        name = argument if quoted is None and argument.isidentifier() else None
        return FinalText(argument, name), end
    name_match = _QUOTED_NAME.fullmatch(argument)
    return FinalVariable(name_match["name"] if name_match else argument), end


def _quoted_argument(text: str, start: int) -> tuple[str, int] | None:
    """Reads an argument that is one Python string literal; returns its value and the offset behind the parenthesis."""
    string = _STRING.match(text, start)
    closing = _STRING_CLOSES.match(text, string.end()) if string else None
    if not string or not closing or not _LINE_END.match(text, closing.end()):
        return None
    literal = string["literal"]
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        value = literal[1:-1]
    return str(value).strip(), closing.end()


def _plain_argument(text: str, start: int) -> tuple[str, int] | None:
    closing = _closing_parenthesis(text, start)
    return None if closing is None else (text[start:closing].strip(), closing + 1)


def _closing_parenthesis(text: str, start: int) -> int | None:
    """Finds the balancing parenthesis, which must also end its line.

    One inside a line ("an emoticon :) and more)") is text if that line ends in another one. Otherwise FINAL is only mentioned.
    With an opening parenthesis too many, the last character of the reply closes the argument.
    """
    depth, limit = 1, len(text)
    for match in _PARENTHESIS.finditer(text, start):
        if match.start() >= limit:
            return None
        depth += 1 if match[0] == "(" else -1
        if depth > 0:
            continue
        if _LINE_END.match(text, match.end()):
            return match.start()
        depth = 1
        if limit == len(text):
            limit = _line_end(text, match.end())
    last = len(text.rstrip()) - 1
    return last if limit == len(text) and last >= start and text[last] == ")" else None


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end
