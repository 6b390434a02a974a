"""Converts what callers pass as ``context`` to plain data: dataclasses, pydantic models, and iterators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

from rlm.core.cells import PlainValue
from rlm.core.errors import ContextError
from rlm.documents.values import names_files

MAX_ITEMS = 10_000_000
"""Items that are taken from an iterator. One without end is an error, not a process without memory."""

MAX_DEPTH = 200
"""Levels of nested containers that are searched for objects to convert."""

_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})


def plain_context(value: PlainValue) -> PlainValue:
    """The context as plain data. Containers without anything to convert are returned as they are, not copied.

    Dataclasses and pydantic models become dicts, iterators and generators become lists. Path objects stay.

    Raises:
        ContextError: an iterator has too many items, or is asynchronous.
    """
    if isinstance(value, AsyncIterator):
        raise ContextError("The context is an asynchronous iterator. Collect it first: [item async for item in ...].")
    if isinstance(value, Iterator) and not hasattr(value, "read"):
        value = _collect(value)
    return value if names_files(value) else _convert(value, MAX_DEPTH)


def needs_conversion(value: PlainValue) -> bool:
    """True if ``plain_context`` could take long or run code of the caller. It then belongs in the caller's thread."""
    return not isinstance(value, str | bytes | None)


def _collect(items: Iterator[Any]) -> list[Any]:
    collected = list(islice(items, MAX_ITEMS + 1))
    if len(collected) > MAX_ITEMS:
        raise ContextError(
            f"The context is an iterator of more than {MAX_ITEMS:,} items. Pass a part of it, or a file."
        )
    return collected


def _convert(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _LEAVES or depth == 0:
        return value
    if kind is list or kind is tuple:
        return _convert_items(value, depth)
    if kind is dict:
        return _convert_values(value, depth)
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: _convert(getattr(value, item.name), depth - 1) for item in fields(value)}
    dump = getattr(kind, "model_dump", None)  # pydantic, which is not a dependency
    if callable(dump):
        return _convert(dump(value), depth - 1)
    return value


def _convert_items(items: Any, depth: int) -> Any:
    if set(map(type, items)) <= _LEAVES:
        return items
    converted = [_convert(item, depth - 1) for item in items]
    if all(old is new for old, new in zip(items, converted, strict=True)):
        return items
    return type(items)(converted)


def _convert_values(mapping: dict[Any, Any], depth: int) -> dict[Any, Any]:
    if set(map(type, mapping.values())) <= _LEAVES:
        return mapping
    converted = {key: _convert(item, depth - 1) for key, item in mapping.items()}
    return mapping if all(mapping[key] is item for key, item in converted.items()) else converted
