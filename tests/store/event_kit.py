"""Builds events by reflection over dataclass fields and their types, so that a new field is covered by itself."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, Literal, NewType, Union

from rlm.core import messages
from rlm.core.events import AnyEvent
from rlm.core.ids import RunId

KINDS: tuple[type[AnyEvent], ...] = typing.get_args(AnyEvent)
RUN = RunId("r1")


def hints_of(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls, None, vars(messages))


def default_of(cls: type[Any], name: str) -> Any:
    """The default of a field; MISSING if it has none."""
    (field,) = (field for field in fields(cls) if field.name == name)
    return field.default_factory() if field.default_factory is not MISSING else field.default


def value_of(hint: Any, number: int) -> Any:
    """A value of this type; a different ``number`` gives a different value."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, NewType):
        return value_of(hint.__supertype__, number)
    if origin is Literal:
        return arguments[number % len(arguments)]
    if origin in {Union, types.UnionType}:
        inner = [argument for argument in arguments if argument is not type(None)]
        return value_of(inner[number % len(inner)], number)
    if origin is tuple:
        items = arguments[:1] * 2 if arguments[-1] is Ellipsis else arguments
        return tuple(value_of(item, number + place) for place, item in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        return {"title": f"schema {number}", "properties": {"x": {"type": "integer"}}}
    if is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), number)
    if hint is object:
        return {"a": (number, {2}), 3: b"\0"}
    return {str: f"text {number}", bytes: b"%d" % number, int: number + 2, float: number + 0.5, bool: bool(number % 2)}[
        hint
    ]


def build(cls: type[Any], number: int) -> Any:
    """An object with a value in every field that is not the field's default."""
    values = {}
    for name, hint in hints_of(cls).items():
        candidates = (value_of(hint, number + step) for step in range(3))
        default = default_of(cls, name)
        values[name] = next(value for value in candidates if default is MISSING or value != default)
    return replace(cls(**values), run=RUN) if "run" in values else cls(**values)


def build_minimal(cls: type[Any], number: int = 1) -> Any:
    """An object with every default in place."""
    required = {name: hint for name, hint in hints_of(cls).items() if default_of(cls, name) is MISSING}
    values = {
        name: build_minimal(typing.cast("type[Any]", hint), number) if is_dataclass(hint) else value_of(hint, number)
        for name, hint in required.items()
    }
    return replace(cls(**values), run=RUN) if "run" in values else cls(**values)


def vary(thing: Any, number: int = 7) -> Iterator[tuple[str, Any]]:
    """The same object with one field changed, for each field of it and of the objects in it, with the field's path."""
    for name, hint in hints_of(type(thing)).items():
        if name == "run":
            continue
        before = getattr(thing, name)
        candidates = (value_of(hint, number + step) for step in range(3))
        yield name, replace(thing, **{name: next(value for value in candidates if repr(value) != repr(before))})
        default = default_of(type(thing), name)
        if default is not MISSING and before != default:
            yield name, replace(thing, **{name: default})
        if is_dataclass(before):
            for path, inner in vary(before, number):
                yield f"{name}.{path}", replace(thing, **{name: inner})
        elif isinstance(before, tuple) and before and is_dataclass(before[0]):
            for path, inner in vary(before[0], number):
                yield f"{name}.{path}", replace(thing, **{name: (inner, *before[1:])})
