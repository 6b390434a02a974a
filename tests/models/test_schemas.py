"""Schemas on their way to providers: what can be guaranteed, what is wrapped, and what comes back."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rlm.models.json_schema import prepare_schema, read_json

TEXT: dict[str, Any] = {"type": "string"}
OPEN: dict[str, Any] = {"type": "object", "properties": {"a": TEXT, "b": TEXT}, "required": ["a", "b"]}

GUARANTEED: list[tuple[dict[str, Any], bool]] = [
    (OPEN, True),
    ({**OPEN, "required": ["a"]}, False),
    ({**OPEN, "additionalProperties": True}, False),
    ({"type": "object", "additionalProperties": {"type": "integer"}}, False),
    ({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0}}, "required": ["a"]}, False),
    ({"type": "object", "properties": {"a": {"type": "array", "items": OPEN}}, "required": ["a"]}, True),
    ({"type": "object", "properties": {"minimum": TEXT}, "required": ["minimum"]}, True),
    ({"$defs": {"p": OPEN}, "type": "object", "properties": {"a": {"$ref": "#/$defs/p"}}, "required": ["a"]}, True),
    ({"type": "array", "items": TEXT}, True),
    ({"enum": ["yes", "no"]}, True),
    ({"anyOf": [TEXT, {"type": "null"}]}, True),
]


@pytest.mark.parametrize(("schema", "guaranteed"), GUARANTEED)
def test_guaranteed_schemas_are_recognised(schema: dict[str, Any], guaranteed: bool) -> None:
    before = orjson.dumps(schema)
    wire = prepare_schema(schema)
    assert wire.guaranteed is guaranteed
    assert wire.schema["type"] == "object"
    assert wire.wrapped is (schema.get("type") != "object")
    assert orjson.dumps(schema) == before, "the caller's schema is not changed"


def test_wrapped_schema_has_definitions_at_root() -> None:
    wire = prepare_schema({"type": "array", "items": {"$ref": "#/$defs/p"}, "$defs": {"p": OPEN}})
    assert wire.schema["$defs"]["p"]["additionalProperties"] is False
    assert wire.schema["properties"]["value"] == {"type": "array", "items": {"$ref": "#/$defs/p"}}


def test_references_to_root_follow_it_into_the_wrapper() -> None:
    wire = prepare_schema(
        {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/p"}]}, "$defs": {"p": TEXT}}
    )
    assert wire.schema["properties"]["value"]["items"] == {
        "anyOf": [{"$ref": "#/properties/value"}, {"$ref": "#/$defs/p"}]
    }
    assert wire.validator.problems([[["x"]]], "it") == ()
    assert wire.validator.problems([[[1]]], "it") == ("[0][0][0] must be an array or a string; got 1",)


def test_values_inside_enums_are_unchanged() -> None:
    odd: dict[str, Any] = {"type": "object", "properties": {}}
    wire = prepare_schema({"type": "object", "properties": {"a": {"const": odd}}, "required": ["a"]})
    assert wire.schema["properties"]["a"] == {"const": odd}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (OPEN, '{"a": "x", "b": "y"}', {"a": "x", "b": "y"}),
        (OPEN, '\n```json\n{"a": "x", "b": "`"}\n```\n', {"a": "x", "b": "`"}),
        (TEXT, '{"value": "x"}', "x"),
        (TEXT, '"bare"', "bare"),
        ({"type": "array"}, '{"value": [1]}', [1]),
        (OPEN, '{"value": 1}', {"value": 1}),
    ],
)
def test_fence_and_wrapper_are_removed_from_reply(schema: dict[str, Any], text: str, value: object) -> None:
    assert orjson.loads(read_json(text, prepare_schema(schema))) == value


@pytest.mark.parametrize("text", ["", "Sure! {}", "{", "[1]", "NaN"])
def test_other_json_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text, prepare_schema(OPEN))
