"""Reads ``cite=[...]`` in an answer that a reply gives in text: ``FINAL(the answer, cite=["exact words"])``."""

from __future__ import annotations

import ast
from dataclasses import replace

from rlm.core.cells import Quote
from rlm.core.final_text import Final, FinalText
from rlm.core.patterns import lazy_pattern

MAX_CHARS = 100_000
_CITE = lazy_pattern(r",\s{0,100}cite\s{0,100}=")


def split_quotes(final: Final | None) -> tuple[Final | None, tuple[Quote, ...]]:
    """An answer without its quotes, and the quotes. An answer that only looks like one with quotes stays as it is."""
    text = "" if final is None else final.text if isinstance(final, FinalText) else final.name
    matches = list(_CITE.finditer(text)) if "cite" in text else []
    if final is None or not matches:
        return final, ()
    quotes = _read_quotes(text[matches[-1].end() :])
    if not quotes:
        return final, ()
    answer = text[: matches[-1].start()].strip()
    literal = _read_literal(answer)
    if isinstance(final, FinalText):
        is_name = literal is None and answer.isidentifier()
        return FinalText(literal if isinstance(literal, str) else answer, answer if is_name else None), quotes
    return replace(final, name=literal if isinstance(literal, str) else answer), quotes


def _read_quotes(text: str) -> tuple[Quote, ...]:
    value = _read_literal(text.strip().rstrip(","))
    items = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    quotes = []
    for item in items:
        match item:
            case str() if item.strip():
                quotes.append(Quote(item))
            case (str(quote), str(path)) if quote.strip():
                quotes.append(Quote(quote, path))
            case _:
                return ()
    return tuple(quotes)


def _read_literal(text: str) -> object:
    """The value of a Python literal; None for any other text."""
    if len(text) > MAX_CHARS:
        return None
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value
