"""JSON schemas as providers accept them, and the JSON of replies. Pure.

Providers guarantee a schema only within limits: the root must be an object, every object closed, no numeric or length
constraints. Any other root is wrapped in an object. Other constraints become an instruction in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

from rlm.core.messages import JsonSchema, Message
from rlm.core.plain import dump_json
from rlm.core.values import frozen
from rlm.schemas.recent import RecentSchemas

if TYPE_CHECKING:
    from rlm.schemas.validator import Validator

SchemaMode: TypeAlias = Literal["json_schema", "json_object", "instruct"]
"""The form in which an API accepts a schema: as it is, as "some JSON object" plus an instruction, or as an instruction only."""

_WRAPPER = "value"
_VALUES = frozenset({"enum", "const", "default", "examples"})
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
        validator: checks values against the schema that was asked for.
    """

    schema: dict[str, Any]
    wrapped: bool
    guaranteed: bool
    validator: Validator = field(compare=False, repr=False)


_prepared = RecentSchemas[WireSchema]()


def prepare_schema(schema: JsonSchema) -> WireSchema:
    """The wire form of a request's schema. The calls of a batch share it.

    Raises:
        SchemaError: it is not a JSON schema, or exceeds a limit.
    """
    return _prepared.get(schema, _prepare)


def _prepare(schema: JsonSchema) -> WireSchema:
    """The schema with its root wrapped and its objects closed as far as necessary.

    Raises:
        SchemaError: it is not a JSON schema, or exceeds a limit.
    """
    validator: Validator = import_module("rlm.schemas.validator").compile_schema(schema)  # most calls have no schema
    plain: Any = orjson.loads(orjson.dumps(validator.schema))
    wrapped = plain.get("type") != "object"
    if wrapped:
        plain = _move_references(plain)
        definitions = {key: plain.pop(key) for key in ("$defs", "definitions") if key in plain}
        plain = {"type": "object", "properties": {_WRAPPER: plain}, "required": [_WRAPPER], **definitions}
    closed = _close(plain)
    return WireSchema(closed, wrapped, _is_guaranteed(closed), validator)


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
        return dump_json(value[_WRAPPER])
    if not wire.wrapped and not isinstance(value, dict):
        raise ValueError(f"the schema requires an object; got a {type(value).__name__}")
    return bare


def unwrap_json(text: str, wire: WireSchema) -> str | None:
    """The JSON of a reply, as by ``read_json``; None if it has none."""
    try:
        return read_json(text, wire)
    except (ValueError, RecursionError):
        return None


def _move_references(part: Any) -> Any:
    """A schema whose references name the place that its root gets inside the wrapper."""
    if isinstance(part, list):
        return [_move_references(item) for item in part]
    if not isinstance(part, dict):
        return part
    moved = {key: value if key in _VALUES else _move_references(value) for key, value in part.items()}
    reference = moved.get("$ref")
    if isinstance(reference, str) and not reference.startswith(("#/$defs/", "#/definitions/")):
        moved["$ref"] = f"#/properties/{_WRAPPER}{reference[1:]}"
    return moved


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
        if key in _VALUES
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
