"""Instances of classes as plain data, so that a cell can give one as a typed answer."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

MAX_LEVELS = 100


def to_plain(value: Any) -> Any:
    """A value with the instances in it replaced: fields as dicts, members of enumerations as their values."""
    return _convert(value, ())


def _convert(value: Any, path: tuple[int, ...]) -> Any:
    if value is None or type(value) in (str, int, float, bool, bytes):
        return value
    if isinstance(value, enum.Enum):
        is_plain = value.value is None or isinstance(value.value, (str, int, float, bool))
        return value.value if is_plain else value.name
    if len(path) >= MAX_LEVELS or id(value) in path:  # the encoder decides about data inside itself
        return value
    path = (*path, id(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _convert(getattr(value, field.name), path) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _convert(part, path) for name, part in zip(value._fields, value)}  # noqa: B905  never longer
    if hasattr(type(value), "model_dump"):
        return _convert(value.model_dump(mode="json"), path)
    if isinstance(value, dict):
        return {_convert(key, path): _convert(part, path) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_convert(part, path) for part in value]
        return items if isinstance(value, list) else tuple(items)
    return value
