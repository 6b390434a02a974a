"""JSON schemas on their way to a provider, and the JSON that comes back.

Providers guarantee a schema only within limits: the root must be an object, every object closed, no numeric or length
constraints. What lies outside is wrapped (a root that is no object), or asked for in words instead. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import orjson

from rlm.core.messages import JsonSchema, Message

SchemaMode: TypeAlias = Literal["json_schema", "json_object", "instruct"]
"""How an API is told: the schema itself, "some JSON object" besides words, or words alone."""

_WRAPPER = "value"
_GUARANTEED = frozenset(
    {"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"}
    | {"$defs", "$ref", "description", "title"}
)


@dataclass(frozen=True, slots=True)
class WireSchema:
    """A schema as it is sent.

    Attributes:
        schema: its root is an object, and its objects are closed where they said nothing about further keys.
        wrapped: the asked-for value sits under one key of that object.
        guaranteed: within what OpenAI's strict mode and Anthropic's structured outputs accept.
    """

    schema: dict[str, Any]
    wrapped: bool
    guaranteed: bool


def prepare_schema(schema: JsonSchema) -> WireSchema:
    plain = orjson.loads(orjson.dumps(dict(schema)))
    wrapped = plain.get("type") != "object"
    if wrapped:
        definitions = {key: plain.pop(key) for key in ("$defs", "definitions") if key in plain}
        plain = {"type": "object", "properties": {_WRAPPER: plain}, "required": [_WRAPPER], **definitions}
    closed = _close(plain)
    return WireSchema(closed, wrapped, _is_guaranteed(closed))


def instruct(messages: tuple[Message, ...], wire: WireSchema) -> tuple[Message, ...]:
    """The conversation with the schema spelled out at the end of its newest message."""
    words = f"\n\nReply with JSON alone, no other text, that follows this JSON schema:\n{orjson.dumps(wire.schema).decode()}"
    newest = messages[-1]
    return (*messages[:-1], Message(newest.role, newest.content + words))


def read_json(text: str, wire: WireSchema) -> str:
    """The JSON of a reply: a code fence around it and our own wrapper are taken off.

    Raises:
        ValueError: when there is no JSON.
    """
    bare = text.strip()
    if bare.startswith("```"):
        bare = bare.partition("\n")[2].rpartition("```")[0].strip()
    value = orjson.loads(bare)
    if wire.wrapped and isinstance(value, dict) and set(value) == {_WRAPPER}:
        return orjson.dumps(value[_WRAPPER]).decode()
    if not wire.wrapped and not isinstance(value, dict):
        raise ValueError(f"the schema asks for an object, the reply is a {type(value).__name__}")
    return bare


def _close(schema: Any) -> Any:
    """The schema with ``additionalProperties: false`` in every object that leaves it open by saying nothing."""
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
