"""Converts plain data of cells and answers to JSON."""

from __future__ import annotations

import datetime
import json
import math
from dataclasses import fields, is_dataclass
from decimal import Decimal

import orjson

from rlm.core.messages import JsonValue
from rlm.core.plain_repr import int_text, plain_repr

MAX_DIGITS = 4300  # of a number in JSON


def to_json(value: object) -> JsonValue:
    """Converts plain data to JSON types: sets and tuples to lists, dataclasses to objects, all other types to text.

    Integers of more than 4,300 digits and floats that are not finite become text. A dict whose keys would be equal as text
    becomes a list of pairs.
    """
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if _is_number_in_json(value) else int_text(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case dict():
            return _object_of(value)
        case list() | tuple():
            return [to_json(item) for item in value]
        case set() | frozenset():
            return [to_json(item) for item in sorted(value, key=plain_repr)]
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case Decimal():
            return str(value)
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
        case _:
            return _text_of(value)


def _object_of(value: dict[object, object]) -> JsonValue:
    """A dict as an object; as a list of pairs if two of its keys, such as 1 and "1", have the same text."""
    keys = [key if isinstance(key, str) else _text_of(key) for key in value]
    if len(set(keys)) < len(keys):
        return [[to_json(key), to_json(item)] for key, item in value.items()]
    return dict(zip(keys, map(to_json, value.values()), strict=True))


def _text_of(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  an integer beyond Python's limit of digits, or an object whose own method fails
        return plain_repr(value)


def _is_number_in_json(value: int) -> bool:
    """False if Python's own readers of JSON would refuse the number: the limit of digits is a setting of the process."""
    if value.bit_length() >= MAX_DIGITS * math.log2(10):
        return False
    try:
        int.__repr__(value)
    except ValueError:
        return False
    return True


def dump_json(value: object) -> str:
    """Serialises plain data as one line of JSON, as ``to_json`` converts it."""
    try:
        data = orjson.dumps(value, default=to_json)
    except TypeError:  # lone surrogates, numbers beyond 64 bits, keys other than text
        return json.dumps(to_json(value), separators=(",", ":"))
    if b"null" in data and _has_odd_float(value):  # orjson writes null for them
        return json.dumps(to_json(value), separators=(",", ":"), ensure_ascii=False)
    return data.decode()


def _has_odd_float(value: object) -> bool:
    """True if plain data holds a float that JSON lacks."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_odd_float, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_has_odd_float, value))
    if is_dataclass(value) and not isinstance(value, type):
        return any(_has_odd_float(getattr(value, item.name)) for item in fields(value))
    return False
