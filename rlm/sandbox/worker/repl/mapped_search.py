"""Patterns of ``re`` over a large text: they search it window by window, because the C code of ``re`` accepts a ``str`` only.

For a text that is known to be ASCII they search the ``str`` over its bytes instead. The end of a match can depend on
the ``TAIL_CHARS`` characters after its start, and on no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from ..lookahead.copies import set_methods
from .mapped_text import MappedText

WINDOW_BYTES = 4 << 20
TAIL_CHARS = 1 << 20  # at most a quarter of a window
LEAD_CHARS = 4096  # before a window's first match, for anchors and lookbehind

_METHODS = ("search", "match", "fullmatch", "findall", "finditer", "split", "sub", "subn")
_originals: dict[str, Callable[..., Any]] = {}


def install() -> None:
    """Makes the methods of all patterns, and so the functions of ``re``, accept a ``MappedText``."""
    if not _originals:
        _originals.update({name: getattr(re.Pattern, name) for name in _METHODS})
        set_methods(re.Pattern, {name: _accepting(name, original) for name, original in _originals.items()})


def _accepting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    place = 1 if name in ("sub", "subn") else 0  # of the text among the arguments

    def match(pattern: re.Pattern[str], *arguments: Any, **options: Any) -> Any:
        if "string" in options:
            arguments = (*arguments[:place], options.pop("string"), *arguments[place:])
        if len(arguments) <= place or type(arguments[place]) is not MappedText:
            return original(pattern, *arguments, **options)
        text = arguments[place]
        plain = text.plain()
        if plain is None and name in _SEARCHES:
            return _SEARCHES[name](pattern, text, *arguments[1:], **options)
        plain = str(text) if plain is None else plain
        return original(pattern, *arguments[:place], plain, *arguments[place + 1 :], **options)

    match.__name__ = name
    return match


def _search(pattern: re.Pattern[str], text: MappedText, pos: int = 0, endpos: int | None = None) -> MappedMatch | None:
    return next(_finditer(pattern, text, pos, endpos), None)


def _match(pattern: re.Pattern[str], text: MappedText, pos: int = 0, endpos: int | None = None) -> MappedMatch | None:
    base, window, _ = _window(text, max(pos, 0))
    end = len(window) if endpos is None else min(len(window), endpos - base)
    match = _originals["match"](pattern, window, max(pos, 0) - base, end)
    return None if match is None else MappedMatch(match, base, text)


def _findall(pattern: re.Pattern[str], text: MappedText, pos: int = 0, endpos: int | None = None) -> list[Any]:
    matches: list[Any] = []
    for match in _finditer(pattern, text, pos, endpos):
        groups = match.groups("")
        matches.append(match.group() if not groups else groups[0] if len(groups) == 1 else groups)
    return matches


def _finditer(
    pattern: re.Pattern[str], text: MappedText, pos: int = 0, endpos: int | None = None
) -> Iterator[MappedMatch]:
    at, size = max(pos, 0), WINDOW_BYTES
    while True:
        base, window, is_last = _window(text, at, size)
        end = len(window)
        if endpos is not None and endpos - base <= end:
            end, is_last = max(endpos - base, 0), True
        sure = end if is_last else end - TAIL_CHARS
        following = base + sure
        for match in _originals["finditer"](pattern, window, at - base, end):
            if not is_last and match.end() >= sure:  # it could go on in the next window
                following = base + match.start()
                break
            yield MappedMatch(match, base, text)
            following = max(following, base + match.end())
        if is_last:
            return
        size = 4 * size if at == following else WINDOW_BYTES
        at = following


def _window(text: MappedText, at: int, size: int = WINDOW_BYTES) -> tuple[int, str, bool]:
    """The first character of a window in which a search can start at ``at``, its text, and True if it ends with the file."""
    base = max(at - LEAD_CHARS, 0)
    window, is_last = text.between(text.byte_of(base), size)
    return base, window, is_last


_SEARCHES: dict[str, Callable[..., Any]] = {
    "search": _search,
    "match": _match,
    "findall": _findall,
    "finditer": _finditer,
}


class MappedMatch:
    """A match with its offsets in the whole text. It holds the text of its groups, and not its window."""

    __slots__ = ("_groups", "_spans", "lastgroup", "lastindex", "re", "string")

    def __init__(self, match: re.Match[str], base: int, text: MappedText) -> None:
        self._groups = (match[0], *match.groups())
        self._spans = [
            (start if start < 0 else start + base, end if end < 0 else end + base) for start, end in match.regs
        ]
        self.re, self.lastindex, self.lastgroup = match.re, match.lastindex, match.lastgroup
        self.string = text

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return re.Match

    def _number(self, group: Any) -> int:
        number = self.re.groupindex.get(group, -1) if isinstance(group, str) else group.__index__()
        if not 0 <= number < len(self._groups):
            raise IndexError("no such group")
        return int(number)

    def span(self, group: Any = 0) -> tuple[int, int]:
        return self._spans[self._number(group)]

    def start(self, group: Any = 0) -> int:
        return self.span(group)[0]

    def end(self, group: Any = 0) -> int:
        return self.span(group)[1]

    def __getitem__(self, group: Any) -> Any:
        return self._groups[self._number(group)]

    def group(self, *groups: Any) -> Any:
        return self[groups[0] if groups else 0] if len(groups) < 2 else tuple(self[group] for group in groups)

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        return tuple(default if text is None else text for text in self._groups[1:])

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        return {name: default if self[name] is None else self[name] for name in self.re.groupindex}

    def __repr__(self) -> str:
        return f"<re.Match object; span={self.span()}, match={self[0]!r}>"
