"""Converts what callers pass as ``context`` to plain data: dataclasses, pydantic models, and iterators."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

from rlm.core.cells import PlainValue
from rlm.core.errors import ContextError
from rlm.documents.values import names_files

MAX_ITEMS = 10_000_000
"""Items that are taken from an iterator. One without end is an error, not a process without memory."""

MAX_DEPTH = 100
"""Levels of nested containers that enter the sandbox."""

_CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
_LEAVES = frozenset({str, int, float, bool, bytes, type(None)})


def plain_context(value: PlainValue) -> PlainValue:
    """The context as plain data. Containers without anything to convert are returned as they are, not copied.

    Dataclasses and pydantic models become dicts, iterators and generators become lists. Subclasses of containers become the
    containers that they extend. Path objects and open files stay; files that exist in memory only, or decompress, are read.

    Raises:
        ContextError: an iterator has too many items, or is asynchronous. Data is nested too deep, or inside itself. A file is
            closed or cannot be read.
    """
    if hasattr(type(value), "read"):
        return _open_file(value)
    if isinstance(value, AsyncIterator):
        raise ContextError("The context is an asynchronous iterator. Collect it first: [item async for item in ...].")
    if isinstance(value, Iterator):
        value = _collect(value)
    value = _base_container(value)
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


def _open_file(file: Any) -> Any:
    """An open file, or the content of one without a descriptor of its own."""
    raw = getattr(file, "buffer", file)
    if getattr(file, "closed", False) is True:
        raise ContextError("The file given as the context is closed. Open it, or pass its text.")
    if not isinstance(raw, io.IOBase) or isinstance(raw, io.BufferedReader | io.BufferedRandom | io.FileIO):
        return file
    try:
        return file.read()
    except (OSError, ValueError, EOFError) as error:
        raise ContextError(f"The file given as the context cannot be read: {error}. Pass its text or bytes.") from error


def _base_container(value: Any) -> Any:
    """Text or a container as the built-in type that it extends, whatever its own methods do."""
    kind = type(value)
    if kind in _LEAVES or kind in _CONTAINERS:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return dict(dict.items(value))
    base: Any
    for base in (list, tuple, set, frozenset):
        if isinstance(value, base):
            return base(base.__iter__(value))
    return value


def _convert(value: Any, depth: int) -> Any:
    value = _base_container(value)
    kind = type(value)
    if kind in _LEAVES:
        return value
    if depth == 0 and kind in _CONTAINERS:
        raise ContextError(
            f"The context is nested deeper than {MAX_DEPTH} levels, or contains itself. Pass it as text."
        )
    if kind in _CONTAINERS:
        return _convert_values(value, depth) if kind is dict else _convert_items(value, depth)
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
    if isinstance(items, set | frozenset) or all(old is new for old, new in zip(items, converted, strict=True)):
        return items
    return type(items)(converted)


def _convert_values(mapping: dict[Any, Any], depth: int) -> dict[Any, Any]:
    if set(map(type, mapping.values())) <= _LEAVES:
        return mapping
    converted = {key: _convert(item, depth - 1) for key, item in mapping.items()}
    return mapping if all(mapping[key] is item for key, item in converted.items()) else converted
