"""The form of one type: its JSON schema, a test of data, and the instance made of data. Forms of the basic types."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import pathlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Schema = dict[str, Any]


class HintError(TypeError):
    """A type cannot be expressed as a JSON schema."""


@dataclass(slots=True)
class Form:
    """One type.

    Attributes:
        schema: its JSON schema.
        fits: tests if data can be an instance, so that the member of a union is found.
        build: makes the instance of data that follows the schema.
        is_plain: ``build`` returns the data unchanged.
        read_key: makes a dict key of its text; None if the type cannot be a key.
    """

    schema: Schema = field(default_factory=dict)
    fits: Callable[[Any], bool] = lambda _: True
    build: Callable[[Any], Any] = lambda data: data
    is_plain: bool = True
    read_key: Callable[[str], Any] | None = None


def _is_number(data: object) -> bool:
    return isinstance(data, (int, float)) and not isinstance(data, bool)


def _is_integer(data: Any) -> bool:
    return _is_number(data) and (isinstance(data, int) or data.is_integer())


def _reads(read: Callable[[str], object]) -> Callable[[object], bool]:
    """A test for text that ``read`` accepts."""

    def fits(data: object) -> bool:
        try:
            return isinstance(data, str) and read(data) is not None
        except (ValueError, ArithmeticError):
            return False

    return fits


def _of_text(read: Callable[[str], object], schema: Schema) -> Form:
    return Form({"type": "string", **schema}, _reads(read), read, is_plain=False, read_key=read)


def basic_form(hint: object) -> Form | None:
    """The form of a basic type; None for any other type."""
    make = _BASIC.get(hint) if isinstance(hint, type) or hint is None else None
    if make is not None:
        return make()
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return enum_form(hint)
    if isinstance(hint, type) and issubclass(hint, pathlib.PurePath):
        return _of_text(hint, {})
    return None


def enum_form(cls: type[enum.Enum]) -> Form:
    """The values of an enumeration; its names if a value is not plain."""
    members = list(cls)
    if not members:
        raise HintError(f"{cls.__name__} has no members")
    if all(_is_constant(member.value) for member in members):
        form = values_form([(member.value, member) for member in members])
    else:
        form = values_form([(member.name, member) for member in members])
    form.schema["title"] = cls.__name__
    return form


def values_form(pairs: list[tuple[Any, Any]]) -> Form:
    """A choice of constants, each with the object that it stands for."""
    value_of = {(type(constant) is bool, constant): value for constant, value in pairs}

    def key(data: Any) -> tuple[bool, Any]:
        return type(data) is bool, data

    kinds = {_CONSTANTS[type(constant)] for constant, _ in pairs}
    schema: Schema = {"type": kinds.pop()} if len(kinds) == 1 else {}  # some providers demand a type
    form = Form(
        {**schema, "enum": [constant for constant, _ in pairs]},
        lambda data: isinstance(data, (str, int, float, type(None))) and key(data) in value_of,
        lambda data: value_of[key(data)],
        is_plain=all(constant is value for constant, value in pairs),
    )
    if all(isinstance(constant, str) for constant, _ in pairs):
        form.read_key = form.build
    return form


_CONSTANTS = {type(None): "null", str: "string", int: "integer", float: "number", bool: "boolean"}


def _is_constant(value: object) -> bool:
    return type(value) in _CONSTANTS


def literal_form(values: tuple[Any, ...]) -> Form:
    """The form of ``Literal[...]``."""
    pairs = [(value.value if isinstance(value, enum.Enum) else value, value) for value in values]
    for constant, value in pairs:
        if not _is_constant(constant):
            raise HintError(f"Literal[{value!r}] has a value that JSON lacks")
    return values_form(pairs)


def union_form(members: list[Form]) -> Form:
    """The first member that data fits."""

    def find(data: Any) -> Form:
        return next((member for member in members if member.fits(data)), members[0])

    return Form(
        {"anyOf": [member.schema for member in members]},
        lambda data: any(member.fits(data) for member in members),
        lambda data: find(data).build(data),
        is_plain=all(member.is_plain for member in members),
    )


_DECIMAL = {"type": ["number", "string"], "pattern": r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?$"}

_BASIC: dict[object, Callable[[], Form]] = {
    None: lambda: Form({"type": "null"}, lambda data: data is None),
    type(None): lambda: Form({"type": "null"}, lambda data: data is None),
    object: Form,
    bool: lambda: Form({"type": "boolean"}, lambda data: isinstance(data, bool)),
    int: lambda: Form({"type": "integer"}, _is_integer, int, is_plain=False, read_key=int),
    float: lambda: Form({"type": "number"}, _is_number, float, is_plain=False, read_key=float),
    str: lambda: Form({"type": "string"}, lambda data: isinstance(data, str), read_key=str),
    dt.date: lambda: _of_text(dt.date.fromisoformat, {"format": "date"}),
    dt.datetime: lambda: _of_text(dt.datetime.fromisoformat, {"format": "date-time"}),
    dt.time: lambda: _of_text(dt.time.fromisoformat, {"format": "time"}),
    dt.timedelta: lambda: Form(
        {"type": "number", "description": "seconds"},
        _is_number,
        lambda data: dt.timedelta(seconds=data),
        is_plain=False,
    ),
    uuid.UUID: lambda: _of_text(uuid.UUID, {"format": "uuid"}),
    decimal.Decimal: lambda: Form(
        dict(_DECIMAL),
        lambda data: _is_number(data) or _reads(decimal.Decimal)(data),
        lambda data: decimal.Decimal(str(data)),
        is_plain=False,
        read_key=decimal.Decimal,
    ),
}
"""Makers of the forms of basic types. Each form has a schema of its own, which constraints can change."""
