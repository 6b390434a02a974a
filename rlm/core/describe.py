"""Describes an input in one line, so that a model knows the kind of ``context`` without seeing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import cast

from rlm.core.cells import PlainValue
from rlm.core.plain_repr import plain_repr
from rlm.core.sizes import in_steps

MAX_KEYS = 20


def describe_context(value: PlainValue) -> str:
    """Returns ``a str of 120,345 characters``, ``a list of 12 items (str), 9,120 characters in all``, and the like."""
    match value:
        case None:
            return "None: there is no input"
        case str():
            return f"a str of {len(value):,} characters"
        case bytes() | bytearray():  # cells have it as bytes
            return f"a bytes object of {len(value):,} bytes"
        case Mapping():
            return _describe_mapping(value)
        case Sequence():
            return _describe_sequence(value)
        case _ if hasattr(value, "read"):
            name = str(getattr(value, "name", "without a name"))
            return f"a str: the text of the file {name.rstrip('/').rpartition('/')[2]}"
        case _:
            return f"of type {type(value).__name__}"


def _describe_mapping(value: Mapping[object, object]) -> str:
    shown = [f"{plain_repr(key)} ({_size(item)})" for key, item in islice(value.items(), MAX_KEYS)]
    more = f" and {len(value) - MAX_KEYS:,} more" if len(value) > MAX_KEYS else ""
    return f"a dict with {len(value):,} keys: {', '.join(shown)}{more}" if value else "an empty dict"


def _describe_sequence(value: Sequence[object]) -> str:
    if not value:
        return f"an empty {type(value).__name__}"
    if all(isinstance(item, Mapping) and item.keys() == {"role", "content"} for item in value):
        return f"a list of {len(value):,} messages, each a dict with 'role' and 'content'"
    kinds = sorted({kind.__name__ for step in in_steps(value) for kind in set(map(type, step))})
    text = f"a {type(value).__name__} of {len(value):,} items ({', '.join(kinds[:4])})"
    if kinds == ["str"]:
        chars = sum(sum(map(len, cast("Sequence[str]", step))) for step in in_steps(value))
        text += f", {chars:,} characters in all"
    return text


def _size(value: object) -> str:
    if isinstance(value, str):
        return f"str, {len(value):,} characters"
    if isinstance(value, list | dict):
        return f"{type(value).__name__}, {len(value):,} items"
    return type(value).__name__
