"""JSON values: their names, equality, and short forms for messages."""

from __future__ import annotations

import json
from collections.abc import Hashable
from typing import Any, TypeAlias

MAX_SHOWN_CHARS = 60
MAX_PATH_CHARS = 200

Path: TypeAlias = tuple[Any, ...]
"""A place in a value: ``()`` for the value itself, otherwise the place of its container and a key or an index."""


def type_name(value: object) -> str:
    """The name of a value's type in JSON schemas."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return type(value).__name__


def has_some_type(value: object, names: tuple[str, ...]) -> bool:
    """True if a value has one of the types of JSON schemas. A number without fraction is an integer."""
    own = type_name(value)
    if own in names or (own == "integer" and "number" in names):
        return True
    return "integer" in names and isinstance(value, float) and value.is_integer()


def identity(value: Any) -> Hashable:
    """A key that two values share if they are equal in JSON: 1 equals 1.0 and differs from true."""
    match value:
        case bool() | None:
            return ("literal", value)
        case int() | float():
            return ("number", value)
        case str():
            return value
        case list():
            return ("array", tuple([identity(item) for item in value]))
        case _:
            return ("object", frozenset([(key, identity(item)) for key, item in value.items()]))


def count_parts(value: object, most: int) -> int:
    """The number of values inside a value, itself included. Stops counting beyond ``most``."""
    count, level = 0, [value]
    while level and count <= most:
        item = level.pop()
        count += 1
        if isinstance(item, dict):
            level.extend(item.values())
        elif isinstance(item, list | tuple | set | frozenset):
            level.extend(item)
    return count + len(level)


def show(value: object) -> str:
    """A value in at most a few words."""
    match value:
        case str() if len(value) > MAX_SHOWN_CHARS:
            return f"{json.dumps(value[:MAX_SHOWN_CHARS], ensure_ascii=False)}... ({len(value):,} characters)"
        case int() if value.bit_length() > 200:
            return "a very large integer"
        case str() | None | bool() | int() | float():
            return json.dumps(value, ensure_ascii=False)[:MAX_SHOWN_CHARS]
        case list():
            return f"an array of {len(value):,} items" if value else "an empty array"
        case dict():
            names = ", ".join(map(str, list(value)[:4]))
            return f"an object with {shorten(names)}" if value else "an empty object"
        case _:
            return f"a {type(value).__name__}"


def shorten(text: str, most: int = MAX_SHOWN_CHARS) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text[: most + 1].split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def path_text(path: Path, subject: str) -> str:
    """A place in words, such as ``people[2].age``. The value itself is the ``subject``."""
    steps: list[Any] = []
    while path:
        path, step = path
        steps.append(step)
    text = ""
    for step in reversed(steps):
        if isinstance(step, int):
            text += f"[{step}]"
        elif str(step).isidentifier():
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(shorten(str(step)), ensure_ascii=False)}]"
    if not text:
        return subject
    return text if len(text) <= MAX_PATH_CHARS else f"{text[:100]}...{text[-97:]}"
