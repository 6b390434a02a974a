"""JSON schemas as providers accept them, and the JSON of replies. Pure.

Providers guarantee a schema only within limits: the root must be an object, every object closed, no numeric or length
constraints. Any other root is wrapped in an object. Other constraints become an instruction in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import orjson

from rlm.core.messages import JsonSchema, Message
from rlm.core.values import frozen
from rlm.models.schema_check import check_value

SchemaMode: TypeAlias = Literal["json_schema", "json_object", "instruct"]
"""The form in which an API accepts a schema: as it is, as "some JSON object" plus an instruction, or as an instruction only."""

_WRAPPER = "value"
_GUARANTEED = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"}
    | {"$defs", "$ref", "description", "title"}
)


@frozen
class WireSchema:
    """A schema as it is sent.

    Attributes:
        schema: its root is an object, and its objects are closed unless they allow further keys.
        wrapped: the requested value is under one key of that object.
        guaranteed: OpenAI's strict mode and Anthropic's structured outputs accept it.
    """

    schema: dict[str, Any]
    wrapped: bool
    guaranteed: bool


def prepare_schema(schema: JsonSchema) -> WireSchema:
    """The schema with its root wrapped and its objects closed as far as necessary.

    Raises:
        ValueError, TypeError, RecursionError: it is not a JSON schema.
    """
    plain = orjson.loads(orjson.dumps(dict(schema)))
    _check_keywords(plain)
    wrapped = plain.get("type") != "object"
    if wrapped:
        definitions = {key: plain.pop(key) for key in ("$defs", "definitions") if key in plain}
        plain = {"type": "object", "properties": {_WRAPPER: plain}, "required": [_WRAPPER], **definitions}
    closed = _close(plain)
    return WireSchema(closed, wrapped, _is_guaranteed(closed))


def instruct(messages: tuple[Message, ...], wire: WireSchema) -> tuple[Message, ...]:
    """The conversation with the schema as an instruction at the end of its newest message."""
    words = f"\n\nReply with JSON alone, no other text, that follows this JSON schema:\n{orjson.dumps(wire.schema).decode()}"
    return (*messages[:-1], messages[-1].append(words))


def read_json(text: str, wire: WireSchema) -> str:
    """The JSON of a reply, without a code fence around it and without our own wrapper.

    Raises:
        ValueError: the text is not JSON, or not an object although the schema requires one.
    """
    bare = text.strip()
    if bare.startswith("```"):
        bare = bare.partition("\n")[2].rpartition("```")[0].strip()
    value = orjson.loads(bare)
    if wire.wrapped and isinstance(value, dict) and set(value) == {_WRAPPER}:
        return orjson.dumps(value[_WRAPPER]).decode()
    if not wire.wrapped and not isinstance(value, dict):
        raise ValueError(f"the schema requires an object; got a {type(value).__name__}")
    return bare


def unwrap_json(text: str, wire: WireSchema) -> str | None:
    """The JSON of a reply, as by ``read_json``; None if it has none."""
    try:
        return read_json(text, wire)
    except ValueError:
        return None


def find_violation(text: str, wire: WireSchema) -> str | None:
    """The first violation of the schema by a reply that ``unwrap_json`` has read; None if it is valid."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return "it is not JSON"
    schema = wire.schema["properties"][_WRAPPER] if wire.wrapped else wire.schema
    return check_value(value, schema)


_SHAPES: Mapping[str, tuple[type, ...]] = {
    "properties": (dict,),
    "$defs": (dict,),
    "definitions": (dict,),
    "required": (list,),
    "enum": (list,),
    "anyOf": (list,),
    "oneOf": (list,),
    "allOf": (list,),
    "type": (str, list),
    "items": (dict, bool, list),
    "additionalProperties": (dict, bool),
}


def _check_keywords(schema: Any) -> None:
    if not isinstance(schema, dict):
        if not isinstance(schema, bool):
            raise ValueError(f"a schema is an object, not {str(schema)[:40]!r}")
        return
    for key, value in schema.items():
        if key in _SHAPES and not isinstance(value, _SHAPES[key]):
            raise ValueError(f"{key!r} has the value {str(value)[:40]!r}")
        if key in {"properties", "$defs", "definitions"}:
            parts = list(value.values())
        elif key in {"anyOf", "oneOf", "allOf"}:
            parts = value
        else:
            parts = [value] if key in {"items", "additionalProperties"} and isinstance(value, (dict, bool)) else []
        for part in parts:
            _check_keywords(part)


def _close(schema: Any) -> Any:
    """The schema with ``additionalProperties: false`` in every object that does not mention it."""
    if isinstance(schema, list):
        return [_close(entry) for entry in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {
        key: {name: _close(part) for name, part in value.items()}
        if key in {"properties", "$defs", "definitions"} and isinstance(value, Mapping)
        else value
        if key in {"enum", "const", "default", "examples"}
        else _close(value)
        for key, value in schema.items()
    }
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed


def _is_guaranteed(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return isinstance(schema, bool)
    if not set(schema) <= _GUARANTEED:
        return False
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(properties) != set(schema.get("required", ())):
            return False
    parts = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values(), *schema.get("anyOf", ())]
    if "items" in schema:
        parts.append(schema["items"])
    return all(_is_guaranteed(part) for part in parts)
