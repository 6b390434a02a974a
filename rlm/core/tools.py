"""Tools: functions of the user's program that cells can call, as the engine and the sandbox describe them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from itertools import islice
from typing import Literal, TypeAlias

from rlm.core.values import frozen

MAX_LINE_CHARS = 300  # of a tool in a prompt
MAX_TOOLS = 128  # of one run: each one takes a line of every prompt

ParameterKind: TypeAlias = Literal["positional", "any", "rest", "keyword", "named"]
"""``positional`` before ``/``, ``any`` by position or keyword, ``rest`` is ``*args``, ``keyword`` after ``*``, ``named`` is
``**kwargs``."""

TOOL_ERROR = "ToolError"
"""Prefix of the kind of a tool's failure: ``ToolError.ValueError`` is a ValueError that the tool raised."""

INTERRUPTED = f"{TOOL_ERROR}.Interrupted"
"""The kind of the failure of a tool call that might have taken effect, and that is not executed again."""


@frozen
class ToolParameter:
    """One parameter of a tool. ``annotation`` and ``default`` are source text; ``default`` is None if it is required."""

    label: str
    kind: ParameterKind = "any"
    annotation: str = ""
    default: str | None = None

    def __str__(self) -> str:
        stars = {"rest": "*", "named": "**"}.get(self.kind, "")
        text = f"{stars}{self.label}" + (f": {self.annotation}" if self.annotation else "")
        if self.default is None:
            return text
        return f"{text} = {self.default}" if self.annotation else f"{text}={self.default}"


@frozen
class ToolSpec:
    """The description of a tool.

    Attributes:
        tool: the name under which cells call it.
        parameters: its parameters, in order.
        returns: the annotation of its result, as source text.
        doc: its docstring.
        idempotent: a call can be executed again if its first execution was interrupted.
        depth: the deepest level below the root that has the tool without a grant; None for all levels.
        max_calls: calls in one run; None for no limit.
        origin: the server that provides the tool; empty for a function of the program.
    """

    tool: str
    parameters: tuple[ToolParameter, ...] = ()
    returns: str = ""
    doc: str = ""
    idempotent: bool = False
    depth: int | None = 0
    max_calls: int | None = None
    origin: str = ""

    @property
    def signature(self) -> str:
        """The signature as Python writes it, without the name."""
        parts: list[str] = []
        kinds = [parameter.kind for parameter in self.parameters]
        for index, parameter in enumerate(self.parameters):
            if parameter.kind == "keyword" and "rest" not in kinds and (not index or kinds[index - 1] != "keyword"):
                parts.append("*")
            parts.append(str(parameter))
            if parameter.kind == "positional" and (index + 1 == len(kinds) or kinds[index + 1] != "positional"):
                parts.append("/")
        return f"({', '.join(parts)})" + (f" -> {self.returns}" if self.returns else "")

    @property
    def line(self) -> str:
        """Name, signature and first line of the docstring, for a prompt: one line, bounded, without control characters."""
        summary = one_line(self.doc.strip().partition("\n")[0])
        if self.origin and summary:  # quoted: the words of a server instruct no model
            summary = '"' + summary[:MAX_LINE_CHARS].replace('"', "'") + '"'
        text = one_line(f"{self.tool}{self.signature}") + (f": {summary}" if summary else "")
        return text if len(text) <= MAX_LINE_CHARS else f"{text[: MAX_LINE_CHARS - 3]}..."

    def at_depth(self, levels: int) -> bool:
        """True if nodes this many levels below the root have the tool without a grant."""
        return self.depth is None or levels <= self.depth


class ToolFailure(Exception):
    """A tool call without a result. ``kind`` names the reason: the exception's class, or that of the refusal."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def one_line(text: str) -> str:
    """The text in one line, without control and format characters, and without code fences."""
    shown = "".join(" " if unicodedata.category(char) in _HIDDEN else char for char in text)
    return " ".join(shown.replace("```", "'''").split())


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


MAX_SHOWN_ITEMS = 20  # of one container
MAX_SHOWN_LEVELS = 4
MAX_SHOWN_BITS = 256


def show_call(tool: str, args: object, kwargs: object, most: int) -> str:
    """A tool call as source text, cut to about ``most`` characters. It costs no more for large arguments."""
    items = list(args)[:MAX_SHOWN_ITEMS] if isinstance(args, tuple | list) else []
    named = list(kwargs.items())[:MAX_SHOWN_ITEMS] if isinstance(kwargs, dict) else []
    parts = [show_plain(item, most) for item in items]
    parts += [f"{name}={show_plain(value, most)}" for name, value in named]
    return cut_end(f"{tool}({', '.join(parts)})", most)


def show_plain(value: object, most: int, level: int = 0) -> str:
    """The ``repr`` of plain data, cut to about ``most`` characters. It costs no more for large values."""
    match value:
        case str() | bytes():
            shown = repr(value[:most])
            return shown if len(value) <= most else f"{shown}..."
        case bool() | None | float():
            return repr(value)
        case int():
            return repr(value) if value.bit_length() <= MAX_SHOWN_BITS else f"<int of {value.bit_length()} bits>"
        case list() | tuple() | set() | frozenset() | dict():
            return _show_items(value, most, level)
        case _:
            return cut_end(repr(value), most)


def _show_items(value: Collection[object], most: int, level: int) -> str:
    opening, closing = tuple("[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}")
    if not value:
        return "set()" if isinstance(value, set | frozenset) else opening + closing
    if level >= MAX_SHOWN_LEVELS:
        return f"{opening}...{closing}"
    parts: list[str] = []
    for key in islice(value, MAX_SHOWN_ITEMS):
        if most <= 0:
            break
        text = show_plain(key, most, level + 1)
        if isinstance(value, dict):
            text += f": {show_plain(value[key], most, level + 1)}"
        parts.append(text)
        most -= len(text) + 2
    if len(parts) < len(value):
        parts.append("...")
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    return f"{opening}{', '.join(parts)}{comma}{closing}"


def cut_end(text: str, most: int) -> str:
    """The text, or its beginning if it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[:most]}..."
