"""Types as the forms of answers: dataclasses, TypedDict, enumerations and other hints, and everything that pydantic knows.

Types of the standard library are checked by their JSON schema. A type that mentions pydantic is checked by pydantic.
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from rlm.core.answer_form import AnswerForm, Fit
from rlm.core.cells import PlainValue
from rlm.core.errors import SchemaError
from rlm.sandbox.worker.typed.form import HintError
from rlm.sandbox.worker.typed.hints import compile_hint
from rlm.schemas.form import JsonForm, SchemaForm
from rlm.schemas.reading import dump
from rlm.schemas.validator import MAX_PROBLEMS
from rlm.schemas.values import path_text, shorten, show

MAX_MESSAGE_CHARS = 300


def form_of(schema: object) -> AnswerForm:
    """The form for a ``schema`` argument: a JSON schema, or a type.

    Raises:
        SchemaError: the schema exceeds a limit, or the type cannot be expressed as a JSON schema.
    """
    if isinstance(schema, Mapping):
        return JsonForm(schema)
    return PydanticForm(schema) if _mentions_pydantic(schema, set()) else TypeForm(schema)


class TypeForm(SchemaForm):
    """Instances of a type of the standard library."""

    def __init__(self, hint: object) -> None:
        try:
            self._form = compile_hint(hint)
        except HintError as error:
            raise SchemaError(f"`schema` must be a type or a JSON schema: {error}.") from None
        super().__init__(self._form.schema)

    def _check(self, data: Any, steps: int) -> Fit:
        problems = self._validator.problems(data, steps=steps)
        if problems:
            return Fit(problems=problems)
        try:
            self._form.build(data)
        except Exception as error:  # noqa: BLE001  the user's class can raise anything
            return Fit(problems=(_describe(error),))
        return Fit(data)

    def build(self, data: PlainValue) -> object:
        """See ``AnswerForm.build``."""
        return self._form.build(data)


class PydanticForm(SchemaForm):
    """Instances of a type that pydantic validates, in its own mode: lax unless the type is strict."""

    def __init__(self, hint: object) -> None:
        pydantic: Any = import_module("pydantic")
        self._invalid: Any = pydantic.ValidationError
        try:
            self._adapter = pydantic.TypeAdapter(hint)
            schema = self._adapter.json_schema()
        except pydantic.errors.PydanticUserError as error:
            raise SchemaError(f"`schema` cannot be expressed as a JSON schema: {shorten(str(error), 300)}") from None
        super().__init__(schema)

    def _check(self, data: Any, steps: int) -> Fit:
        try:
            instance = self.build(data)
        except self._invalid as error:
            return Fit(problems=_describe_all(error))
        except Exception as error:  # noqa: BLE001  a validator can raise anything
            return Fit(problems=(_describe(error),))
        return Fit(self._normalise(data, instance))

    def _normalise(self, data: Any, instance: object) -> Any:
        """The instance as plain data, or the data itself if that makes another instance."""
        try:
            dumped = self._adapter.dump_python(instance, mode="json", by_alias=True)
            return dumped if self.build(dumped) == instance else data
        except Exception:  # noqa: BLE001  a class need not be serialisable
            return data

    def build(self, data: PlainValue) -> object:
        """See ``AnswerForm.build``."""
        return self._adapter.validate_json(dump(data))


def _describe(error: Exception) -> str:
    return shorten(f"the answer was rejected: {type(error).__name__}: {error}", MAX_MESSAGE_CHARS)


def _describe_all(error: Any) -> tuple[str, ...]:
    """The problems that pydantic found, each with its path."""
    problems = []
    details = error.errors(include_url=False, include_context=False)
    for detail in details[:MAX_PROBLEMS]:
        path: tuple[Any, ...] = ()
        for step in detail["loc"]:
            path = (path, step)
        place = path_text(path, "the answer")
        if detail["type"] == "missing":
            problems.append(f"{place} is missing")
        else:
            problems.append(f"{place}: {shorten(detail['msg'], MAX_MESSAGE_CHARS)}; got {show(detail['input'])}")
    if len(details) > MAX_PROBLEMS:
        problems.append(f"and {len(details) - MAX_PROBLEMS} more")
    return tuple(problems)


def _mentions_pydantic(hint: Any, seen: set[int]) -> bool:
    """True if a type, or a type inside it, belongs to pydantic. Without pydantic in the process it cannot."""
    if "pydantic" not in sys.modules or id(hint) in seen:
        return False
    seen.add(id(hint))
    if hasattr(hint, "__get_pydantic_core_schema__") or hasattr(hint, "__pydantic_core_schema__"):
        return True
    notes = getattr(hint, "__metadata__", ())
    if any(type(note).__module__.partition(".")[0] == "pydantic" for note in notes):
        return True
    parts = [*typing.get_args(hint), getattr(hint, "__value__", None), getattr(hint, "__supertype__", None)]
    origin = typing.get_origin(hint) or hint
    if dataclasses.is_dataclass(origin) or typing.is_typeddict(origin) or hasattr(origin, "_fields"):
        try:
            parts.extend(typing.get_type_hints(origin, include_extras=True).values())
        except (NameError, TypeError):  # the compilation of the type reports it
            return False
    return any(_mentions_pydantic(part, seen) for part in parts if part is not None)
