"""The options of a query: encoded for the host, with the way in which a reply becomes the value that the caller receives."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..failures import LLMQueryError
from ..typed.form import Form, HintError
from ..typed.hints import compile_hint
from ..wire.pieces import INLINE_BYTES
from ..wire.values import dump

MAX_FORMS = 64  # compiled types that are remembered

_forms: dict[object, Form] = {}


@dataclass(slots=True)
class Options:
    """Options of one query or batch.

    Attributes:
        payload: model, schema, recursive and tools as JSON; empty if there are none.
        schema: the JSON schema of the reply; None for text.
        grants: the query gives a child tools, which act: it must not be made before its cell reaches it.
        make: makes the caller's value of data that follows the schema; None leaves the data as it is.
    """

    payload: bytes = b""
    schema: dict[str, Any] | None = None
    make: Callable[[Any], Any] | None = None
    grants: bool = False

    def build(self, outcome: object) -> object:
        """The value of an outcome, or the LLMQueryError in its place."""
        if self.make is None or isinstance(outcome, LLMQueryError):
            return outcome
        try:
            return self.make(outcome)
        except Exception as error:
            return LLMQueryError(f"the reply does not fit its type: {type(error).__name__}: {error}", "SchemaMismatch")


def make_options(model: str | None, schema: object, recursive: bool | None, tools: tuple[str, ...] = ()) -> Options:
    """Encodes the options of a query. ``schema`` is a JSON schema or a type.

    Raises:
        TypeError: the schema is neither.
        ValueError: the options are too large.
    """
    if model is schema is recursive is None and not tools:
        return Options()
    json_schema, make = _read_schema(schema)
    chosen = {"model": model, "schema": json_schema, "recursive": recursive, "tools": list(tools) or None}
    given = {name: value for name, value in chosen.items() if value is not None}
    payload = dump(json.loads(json.dumps(given)), strict=True)[1]
    if len(payload) > INLINE_BYTES:
        raise ValueError(f"model and schema must be at most {INLINE_BYTES:,} bytes as JSON; got {len(payload):,}")
    return Options(payload, json_schema, make, bool(tools))


def tool_names(tools: object) -> tuple[str, ...]:
    """The names of tools, which can be given as the functions themselves. Raises TypeError."""
    if not tools:
        return ()
    items = [tools] if isinstance(tools, str) or callable(tools) else list(tools)  # type: ignore[call-overload]
    names = [item if isinstance(item, str) else getattr(item, "__name__", None) for item in items]
    if not all(isinstance(name, str) for name in names):
        raise TypeError("tools must be names of tools, for instance tools=['search_orders']")
    return tuple(dict.fromkeys(str(name) for name in names))


def _read_schema(schema: object) -> tuple[dict[str, Any] | None, Callable[[Any], Any] | None]:
    if schema is None or isinstance(schema, dict):
        return schema, None
    try:
        form = _form_of(schema)
    except HintError as error:
        raise TypeError(
            f"schema must be a JSON schema (a dict), a dataclass, or another type such as list[str]: {error}"
        ) from None
    return form.schema, None if form.is_plain else form.build


def _form_of(hint: object) -> Form:
    try:
        form = _forms.get(hint)
    except TypeError:  # a Literal of unhashable values
        return compile_hint(hint)
    if form is None:
        if len(_forms) >= MAX_FORMS:
            _forms.clear()
        form = _forms[hint] = compile_hint(hint)
    return form
