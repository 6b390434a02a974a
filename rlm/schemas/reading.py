"""Reads the answers of models as JSON data: values of cells, and text that holds JSON or a Python literal.

Nothing is lost: a number in quotes stays text, and a number with a fraction is not rounded.
"""

from __future__ import annotations

import ast
import datetime as dt
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import orjson

from rlm.core.plain import to_json

MAX_LITERAL_CHARS = 100_000
MAX_TEXT_CHARS = 4_000_000  # read in one step, which holds the interpreter's lock for about 20 ms
_FENCE = "```"


class NotDataError(ValueError):
    """A text is neither JSON nor a Python literal."""


def readings(value: object, *, accepts_text: bool) -> Iterator[Any]:
    """The data that an answer can stand for, the plainest first. Text is read as text first if the schema accepts text.

    Raises:
        NotDataError: the answer is a text that only JSON could make valid, and is not JSON.
    """
    if not isinstance(value, str):
        yield plain(value)
        return
    if accepts_text:
        yield value
    try:
        yield read_text(value)
    except NotDataError:
        if not accepts_text:
            raise


def read_text(text: str) -> Any:
    """The data in a text: JSON or a Python literal, with or without a code fence around it.

    Raises:
        NotDataError: there is none, or more than one fenced block.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise NotDataError(f"{len(text):,} characters")
    bare = text.strip()
    if bare.count(_FENCE) == 2:
        bare = bare.split(_FENCE)[1].partition("\n")[2].strip()
    try:
        return orjson.loads(bare)
    except ValueError:
        pass
    if len(bare) <= MAX_LITERAL_CHARS:
        try:
            return plain(ast.literal_eval(bare))
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            pass
    raise NotDataError(bare[:80])


def plain(value: object) -> Any:
    """A value of a cell in JSON types. Times become ISO texts, durations seconds, decimals numbers if that is exact."""
    match value:
        case None | bool() | int() | str():
            return value
        case dict():
            return {_key(key): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return [plain(item) for item in sorted(value, key=_order)]
        case Decimal() if value.is_finite() and Decimal(repr(float(value))) == value:
            return int(value) if value == value.to_integral_value() and "." not in str(value) else float(value)
        case dt.timedelta():
            return value.total_seconds()
        case _:
            return to_json(value)


def dump(data: object) -> bytes:
    """JSON of plain data, also with numbers beyond 64 bits."""
    try:
        return orjson.dumps(data)
    except TypeError:
        return json.dumps(data).encode("utf-8", "surrogatepass")


def _key(key: object) -> str:
    data = plain(key)
    return data if isinstance(data, str) else json.dumps(data)


def _order(item: object) -> tuple[str, Any]:
    return ("", item) if isinstance(item, int | float) else (type(item).__name__, repr(item))
