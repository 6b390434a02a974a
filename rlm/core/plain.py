"""Converts plain data of cells and answers to JSON."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from decimal import Decimal

import orjson

from rlm.core.messages import JsonValue


def to_json(value: object) -> JsonValue:
    """Converts plain data to JSON types: sets and tuples to lists, dataclasses to objects, all other types to text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return {key if isinstance(key, str) else str(key): to_json(item) for key, item in value.items()}
        case list() | tuple():
            return [to_json(item) for item in value]
        case set() | frozenset():
            return [to_json(item) for item in sorted(value, key=repr)]
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
        case _:
            return str(value)


def dump_json(value: object, default: Callable[[object], object] = to_json) -> str:
    """Serialises plain data as one line of JSON. ``default`` converts types that JSON lacks."""
    try:
        return orjson.dumps(value, default=default, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # lone surrogates, numbers beyond 64 bits, compound keys
        return json.dumps(to_json(value), separators=(",", ":"))
