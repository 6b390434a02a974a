"""Checks arguments of the public functions against annotations. Ranges of numbers and choices are checked elsewhere."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from rlm.core.errors import ConfigurationError

_WORDS: dict[Any, str] = {bool: "True or False", str: "text", float: "a number", int: "an integer", Path: "a path"}


def check_type(name: str, value: object, annotation: Any) -> None:
    """Raises ConfigurationError if ``value`` is not of a type that the annotation of the option ``name`` allows.

    The message does not quote the value, which can be a secret.
    """
    try:
        accepted = _accepts(value, annotation)
    except Exception:  # noqa: BLE001  the value's own methods
        accepted = False
    if not accepted:
        raise ConfigurationError(
            f"`{name}` must be {_describe(annotation)}; got a value of type {type(value).__name__}."
        )


def _accepts(value: Any, annotation: Any) -> bool:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(_accepts(value, part) for part in parts)
    if origin is Sequence or origin is tuple:
        is_list = isinstance(value, Collection) and not isinstance(value, str | bytes | bytearray | Mapping)
        return is_list and all(_accepts(item, parts[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(
            _accepts(key, parts[0]) and _accepts(item, parts[1]) for key, item in value.items()
        )
    if origin is Callable:
        return callable(value)
    if annotation is NoneType:
        return value is None
    if annotation is bool or annotation is str:
        return isinstance(value, annotation)
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    if annotation is Path:
        return isinstance(value, os.PathLike)
    return True  # a protocol, or one of some choices


def _describe(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        names = dict.fromkeys(_describe(part) for part in parts)
        return " or ".join(names)
    if origin is Sequence or origin is tuple:
        return f"a list of {_describe(parts[0]).removeprefix('a ')}"
    if origin is Mapping:
        return f"a dict of {_describe(parts[0])} to {_describe(parts[1])}"
    if origin is Callable:
        return "a function"
    if annotation is NoneType:
        return "None"
    return _WORDS.get(annotation) or f"a {getattr(annotation, '__name__', annotation)}"
