"""Compiles Python type hints to forms: dataclasses, TypedDict, NamedTuple, enumerations, containers, unions and constraints."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from .form import Form, HintError, Schema, basic_form, literal_form, union_form

MAX_LEVELS = 40
MAX_DOC_CHARS = 300
_ARRAYS: dict[object, Callable[[Any], Any]] = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Set: frozenset,
    collections.abc.MutableSet: set,
}
_SETS = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_MARKS = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})
_BOUNDS = {
    "gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum", "multiple_of": "multipleOf",
}  # fmt: skip


def compile_hint(hint: object) -> Form:
    """The form of a type, with its definitions in ``$defs``.

    Raises:
        HintError: the type, or a part of it, cannot be expressed as a JSON schema.
    """
    compiler = _Compiler()
    form = compiler.form(hint, {}, 0)
    reference = form.schema.get("$ref")
    if reference is not None and set(form.schema) == {"$ref"}:
        name = str(reference).rpartition("/")[2]
        root = compiler.definitions.pop(name)
        form = dataclasses.replace(form, schema=_renamed(root, reference))
        compiler.definitions = {key: _renamed(part, reference) for key, part in compiler.definitions.items()}
    if compiler.definitions:
        form = dataclasses.replace(form, schema={**form.schema, "$defs": compiler.definitions})
    return form


def _renamed(part: Any, reference: object) -> Any:
    """A schema in which the references to one definition name the root."""
    if isinstance(part, dict):
        return {
            key: "#" if key == "$ref" and value == reference else _renamed(value, reference)
            for key, value in part.items()
        }
    return [_renamed(item, reference) for item in part] if isinstance(part, list) else part


class _Compiler:
    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._classes: dict[object, Form] = {}

    def form(self, hint: Any, given: Mapping[Any, Any], level: int) -> Form:
        """The form of a hint. ``given`` are the arguments of type variables."""
        if level > MAX_LEVELS:
            raise HintError(f"types must be nested at most {MAX_LEVELS} levels deep")
        if isinstance(hint, typing.TypeVar):
            return self._variable(hint, given, level)
        basic = basic_form(hint)
        if basic is not None:
            return basic
        if hint is Any:
            return Form()
        if isinstance(hint, (str, typing.ForwardRef)):
            raise HintError(f"the name {hint!r} is not defined")
        if isinstance(hint, typing.NewType):
            return self.form(hint.__supertype__, given, level + 1)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if type(hint).__name__ == "TypeAliasType":
            return self.form(hint.__value__, given, level + 1)
        if type(origin).__name__ == "TypeAliasType":
            inner = dict(zip(origin.__type_params__, arguments, strict=False))
            return self.form(origin.__value__, {**given, **inner}, level + 1)
        if origin is typing.Annotated:
            return self._annotated(arguments[0], arguments[1:], given, level)
        if getattr(origin, "_name", "") in _MARKS:
            return self.form(arguments[0], given, level + 1)
        if origin is typing.Literal:
            return literal_form(arguments)
        if origin in (typing.Union, types.UnionType):
            return union_form([self.form(member, given, level + 1) for member in arguments])
        return self._generic(hint, origin or hint, arguments, given, level)

    def _variable(self, variable: Any, given: Mapping[Any, Any], level: int) -> Form:
        if variable in given and given[variable] is not variable:
            return self.form(given[variable], {}, level + 1)
        if variable.__constraints__:
            return union_form([self.form(member, {}, level + 1) for member in variable.__constraints__])
        return self.form(variable.__bound__ or Any, {}, level + 1)

    def _generic(
        self, hint: Any, origin: Any, arguments: tuple[Any, ...], given: Mapping[Any, Any], level: int
    ) -> Form:
        arguments = tuple(_substitute(argument, given) for argument in arguments)
        if origin is tuple:
            return self._tuple(hint, arguments, given, level)
        if origin in _ARRAYS:
            item = self.form(arguments[0] if arguments else Any, given, level + 1)
            return _array(item, _ARRAYS[origin], unique=origin in _SETS)
        if origin in _MAPS:
            key, part = arguments if len(arguments) == 2 else (str, Any)
            return _map(self.form(key, given, level + 1), self.form(part, given, level + 1))
        if isinstance(origin, type):
            return self._class(hint, origin, arguments, level)
        raise HintError(f"{hint!r} cannot be expressed as a JSON schema")

    def _tuple(self, hint: Any, arguments: tuple[Any, ...], given: Mapping[Any, Any], level: int) -> Form:
        if hint is tuple or (len(arguments) == 2 and arguments[1] is Ellipsis):
            return _array(self.form(arguments[0] if arguments else Any, given, level + 1), tuple)
        items = [self.form(argument, given, level + 1) for argument in arguments]
        count = len(items)
        schema: Schema = {"type": "array", "minItems": count, "maxItems": count}
        if items:
            schema |= {"prefixItems": [item.schema for item in items], "items": False}
        return Form(
            schema,
            lambda data: (
                isinstance(data, list)
                and len(data) == count
                and all(item.fits(part) for item, part in zip(items, data, strict=True))
            ),
            lambda data: tuple([item.build(part) for item, part in zip(items, data, strict=True)]),
            is_plain=False,
        )

    def _annotated(self, hint: Any, notes: tuple[Any, ...], given: Mapping[Any, Any], level: int) -> Form:
        form = self.form(hint, given, level + 1)
        added: Schema = {}
        for note in notes:
            added |= _constraints(note, form.schema)
        if not added:
            return form
        return dataclasses.replace(form, schema={**form.schema, **added})

    # Classes with fields.

    def _class(self, hint: Any, cls: Any, arguments: tuple[Any, ...], level: int) -> Form:
        key = (cls, arguments)
        if key in self._classes:
            return self._classes[key]
        if hasattr(cls, "model_json_schema") and hasattr(cls, "model_validate"):
            return self._model(cls)
        if not (dataclasses.is_dataclass(cls) or typing.is_typeddict(cls) or _is_named_tuple(cls)):
            raise HintError(
                f"{getattr(cls, '__name__', cls)} cannot be expressed as a JSON schema: make it a dataclass"
            )
        name = self._name(hint if arguments else cls)
        form = self._classes[key] = Form({"$ref": f"#/$defs/{name}"}, is_plain=False)
        self.definitions[name] = {}
        given = dict(zip(_parameters(cls), arguments, strict=False))
        hints = _hints_of(cls)
        fields = {field: self.form(part, given, level + 1) for field, part in hints.items()}
        self.definitions[name].update(_object(form, cls, fields, _required(cls, hints)))
        return form

    def _name(self, hint: Any) -> str:
        plain = re.sub(r"\W+", "_", getattr(hint, "__name__", None) or str(hint)).strip("_")
        if typing.get_args(hint):
            plain = re.sub(r"\W+", "_", str(hint).rpartition("__main__.")[2]).strip("_")[-60:]
        name, number = plain, 1
        while name in self.definitions:
            number += 1
            name = f"{plain}_{number}"
        return name

    def _model(self, cls: Any) -> Form:
        """The form of a class that describes and validates itself, as those of pydantic do."""
        schema = dict(cls.model_json_schema())
        self.definitions.update(schema.pop("$defs", {}))

        def fits(data: object) -> bool:
            try:
                return cls.model_validate(data) is not None
            except ValueError:
                return False

        return Form(schema, fits, cls.model_validate, is_plain=False)


def _substitute(argument: Any, given: Mapping[Any, Any]) -> Any:
    """A type argument with its type variables replaced."""
    if isinstance(argument, typing.TypeVar):
        return given.get(argument, argument)
    parameters = getattr(argument, "__parameters__", ())
    if not given or not parameters or isinstance(argument, type):
        return argument
    return argument[tuple(given.get(parameter, parameter) for parameter in parameters)]


def _parameters(cls: Any) -> tuple[Any, ...]:
    return getattr(cls, "__parameters__", ()) or getattr(cls, "__type_params__", ())


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _hints_of(cls: Any) -> dict[str, Any]:
    """The hints of the fields that make an instance."""
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise HintError(
            f"a hint of {cls.__name__} names an undefined type: {error}. Define it at the top level"
        ) from None
    if dataclasses.is_dataclass(cls):
        return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}
    names = cls._fields if _is_named_tuple(cls) else hints
    return {name: hints.get(name, Any) for name in names}


def _object(form: Form, cls: Any, fields: Mapping[str, Form], names: set[str]) -> Schema:
    """Completes the form of a class with fields, of which ``names`` are required. Returns its definition."""
    required = [name for name in fields if name in names]
    make: Callable[..., Any] = dict if typing.is_typeddict(cls) else cls
    form.fits = lambda data: (
        isinstance(data, dict)
        and names <= data.keys() <= fields.keys()
        and all(fields[n].fits(v) for n, v in data.items())
    )
    form.build = lambda data: make(**{name: fields[name].build(part) for name, part in data.items() if name in fields})
    schema: Schema = {"type": "object", "title": cls.__name__}
    if described := _description(cls):
        schema["description"] = described
    properties = {name: _described(part.schema, _field_note(cls, name)) for name, part in fields.items()}
    return {**schema, "properties": properties, "required": required, "additionalProperties": False}


def _required(cls: Any, hints: Mapping[str, Any]) -> set[str]:
    if dataclasses.is_dataclass(cls):
        missing = dataclasses.MISSING
        return {f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing}
    if _is_named_tuple(cls):
        return set(cls._fields) - set(cls._field_defaults)
    return {name for name, hint in hints.items() if _is_required(hint, name in cls.__required_keys__)}


def _is_required(hint: Any, otherwise: bool) -> bool:
    """The mark of a TypedDict's key. The class itself does not know the marks of postponed annotations."""
    while (mark := getattr(typing.get_origin(hint), "_name", "")) in _MARKS:
        if mark in ("Required", "NotRequired"):
            return mark == "Required"
        hint = typing.get_args(hint)[0]
    return otherwise


def _field_note(cls: Any, name: str) -> str:
    fields = getattr(cls, "__dataclass_fields__", {})
    note = fields[name].metadata.get("description") if name in fields else None
    return note if isinstance(note, str) else ""


def _described(schema: Schema, note: str) -> Schema:
    return {**schema, "description": note} if note else schema


def _description(cls: Any) -> str:
    """The docstring of a class, unless it was generated."""
    text = cls.__dict__.get("__doc__") or ""
    is_generated = text.startswith((f"{cls.__name__}(", "dict(", "Alias for field"))
    return "" if is_generated else inspect.cleandoc(text)[:MAX_DOC_CHARS]


def _array(item: Form, make: Callable[[Any], Any], *, unique: bool = False) -> Form:
    schema: Schema = {"type": "array", "items": item.schema} if item.schema else {"type": "array"}
    if unique:
        schema["uniqueItems"] = True
    return Form(
        schema,
        lambda data: isinstance(data, list) and all(item.fits(part) for part in data),
        lambda data: make([item.build(part) for part in data]),
        is_plain=make is list and item.is_plain,
    )


def _map(key: Form, item: Form) -> Form:
    if key.read_key is None and key.schema:
        raise HintError("the keys of a dict must be text, numbers, dates or enumerations of text")
    read_key = key.read_key or str
    schema: Schema = {"type": "object", "additionalProperties": item.schema or True}
    names = {name: value for name, value in key.schema.items() if name not in ("type", "title")}
    if key.schema.get("type") == "integer":
        names = {"pattern": r"^-?\d+$"}
    if names:
        schema["propertyNames"] = names

    def fits(data: object) -> bool:
        if not isinstance(data, dict):
            return False
        try:
            return all(read_key(name) is not None and item.fits(part) for name, part in data.items())
        except (ValueError, KeyError, ArithmeticError):
            return False

    return Form(
        schema,
        fits,
        lambda data: {read_key(name): item.build(part) for name, part in data.items()},
        is_plain=read_key is str and item.is_plain,
    )


def _constraints(note: Any, schema: Schema) -> Schema:
    """The keywords of one annotation: a bound, a length, a pattern or a description."""
    if isinstance(note, str):
        return {"description": note}
    constraints: Schema = {}
    for inner in getattr(note, "metadata", None) or ():  # a pydantic Field gathers its constraints
        constraints |= _constraints(inner, schema)
    for attribute, keyword in _BOUNDS.items():
        value = getattr(note, attribute, None)
        if isinstance(value, (int, float)):
            constraints[keyword] = value
    kind = schema.get("type")
    suffix = "Items" if kind == "array" else "Properties" if kind == "object" else "Length"
    for attribute, word in (("min_length", "min"), ("max_length", "max")):
        value = getattr(note, attribute, None)
        if isinstance(value, int) and (value or word == "max"):
            constraints[f"{word}{suffix}"] = value
    pattern = getattr(note, "pattern", None)
    if isinstance(pattern, (str, re.Pattern)):
        constraints["pattern"] = pattern if isinstance(pattern, str) else pattern.pattern
    for attribute in ("description", "documentation"):
        if isinstance(value := getattr(note, attribute, None), str):
            constraints["description"] = value
    return constraints
