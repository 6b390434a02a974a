# ruff: noqa: E501  one case a line
"""Validation of plain data against JSON schemas: keywords, messages, and limits for hostile schemas."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rlm.core.errors import SchemaError
from rlm.schemas.validator import INLINE_STEPS, MAX_PROBLEMS, TooManySteps, Validator, compile_schema

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "kids": {"type": "array", "items": {"$ref": "#"}}},
    "required": ["value"],
}
CASES: list[tuple[dict[str, Any], Any, str]] = [
    (PERSON, {"name": "a", "age": 1}, ""),
    (PERSON, {"name": "a", "age": 1.0}, ""),
    (PERSON, {"name": "a", "age": 1.5}, "age must be an integer; got 1.5"),
    (PERSON, {"name": "a", "age": True}, "age must be an integer; got true"),
    (PERSON, {"name": "a", "age": "12"}, 'age must be an integer; got "12"'),
    (PERSON, {"name": "", "age": -1}, 'name must have at least 1 characters; got ""|age must be at least 0; got -1'),
    (PERSON, {"name": "a"}, "age is missing"),
    (PERSON, {"name": "a", "age": 1, "x y": 2}, '["x y"] is not a property of this object'),
    (PERSON, [1, 2], "the answer must be an object; got an array of 2 items"),
    ({"items": PERSON}, [{"name": "a", "age": 1}, {"name": 3, "age": 1}], "[1].name must be a string; got 3"),
    (TREE, {"value": 1, "kids": [{"value": 2, "kids": [{"value": "x"}]}]}, 'kids[0].kids[0].value must be an integer; got "x"'),
    ({"enum": ["a", 1, None]}, "b", 'the answer must be "a" or 1 or null; got "b"'),
    ({"enum": [1]}, True, "the answer must be 1; got true"),
    ({"const": {"a": [1, 2]}}, {"a": [1.0, 2]}, ""),
    ({"type": ["string", "null"]}, 3, "the answer must be a string or null; got 3"),
    ({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 5}]}, 3, "the answer must be at least 5; got 3"),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, [], "the answer must be a string or an integer; got an empty array"),
    ({"oneOf": [{"type": "number"}, {"minimum": 1}]}, 3, "the answer must have exactly one of 2 forms; got a value of several"),
    ({"not": {"type": "string"}}, "a", 'the answer must not have this form; got "a"'),
    ({"multipleOf": 0.1}, 0.3, ""),
    ({"multipleOf": 0.1}, 0.35, "the answer must be a multiple of 0.1; got 0.35"),
    ({"exclusiveMaximum": 3}, 3, "the answer must be below 3; got 3"),
    ({"pattern": "^[A-Z]+$"}, "AB1", 'the answer must match the pattern ^[A-Z]+$; got "AB1"'),
    ({"format": "date"}, "2025-02-30", 'the answer must be a date, as 2025-12-31; got "2025-02-30"'),
    ({"format": "uuid"}, "x", 'the answer must be a UUID; got "x"'),
    ({"format": "unknown"}, "x", ""),
    ({"prefixItems": [{"type": "integer"}], "items": False}, [1, 2], "[1] is not allowed here"),
    ({"items": [{"type": "integer"}], "additionalItems": False}, [1, 2], "[1] is not allowed here"),
    ({"uniqueItems": True}, [1, {"a": 1}, {"a": 1.0}], "[2] must be unique in its array; got an object with a again"),
    ({"contains": {"type": "string"}}, [1], "the answer must contain at least 1 items of the required form; got 0"),
    ({"maxItems": 1}, [1, 2], "the answer must have at most 1 item; got 2"),
    ({"propertyNames": {"maxLength": 1}}, {"bb": 1}, 'the answer has the property "bb", whose name must have at most 1 characters; got 2'),
    ({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": "x"}, 'n1 must be an integer; got "x"'),
    ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, 'b is missing, and must be given with "a"'),
    ({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 2}}, 1, "the answer must be at least 2; got 1"),
    ({"allOf": [{"minimum": 1}, {"maximum": 0}]}, 0.5, "the answer must be at least 1; got 0.5|the answer must be at most 0; got 0.5"),
]  # fmt: skip
KINDS = {
    "oneOf": [
        {"type": "object", "properties": {"kind": {"const": "cat"}, "lives": {"type": "integer"}}, "required": ["kind", "lives"]},
        {"type": "object", "properties": {"kind": {"const": "dog"}, "name": {"type": "string"}}, "required": ["kind", "name"]},
    ]
}  # fmt: skip


@pytest.mark.parametrize(("schema", "value", "problems"), CASES, ids=range(len(CASES)))
def test_each_violation_has_its_path(schema: dict[str, Any], value: Any, problems: str) -> None:
    assert Validator(schema).problems(value) == tuple(filter(None, problems.split("|")))


def test_kind_of_object_chooses_its_option() -> None:
    validator = Validator(KINDS)
    assert validator.problems({"kind": "dog", "name": 1}) == ("name must be a string; got 1",)
    assert validator.problems({"kind": "cow"}) == ('kind must be "cat" or "dog"; got "cow"',)


def test_number_of_problems_is_bounded() -> None:
    problems = Validator({"items": {"type": "integer"}}).problems(["x"] * 1000, steps=10_000)
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == "and 92 or more"
    assert max(map(len, Validator({"type": "integer"}).problems("x" * 10**6))) < 200


def chain(length: int) -> dict[str, Any]:
    """A schema of ``length`` definitions that asks for 2 ** length evaluations."""
    definitions = {f"a{number}": {"anyOf": [{"$ref": f"#/$defs/a{number + 1}"}] * 2} for number in range(length)}
    return {"$ref": "#/$defs/a0", "$defs": {**definitions, f"a{length}": {"type": "integer"}}}


HOSTILE: list[tuple[dict[str, Any], Any]] = [
    (chain(40), "x"),
    ({"$ref": "#"}, 1),
    ({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, 1),
    (
        {"type": "array", "items": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}},
        [[[[[[[[[[[[[[[[[[[[[["x"]]]]]]]]]]]]]]]]]]]]]],
    ),
    ({"anyOf": [{"const": {"a": number}} for number in range(3000)]}, {"a": list(range(5000))}),
    ({"pattern": "^(a|a)*$"}, "a" * 200_000 + "b"),
    ({"pattern": "(x+x+)+y"}, "x" * 200_000),
    ({"uniqueItems": True}, [[number] for number in range(100_000)]),
    ({"additionalProperties": {"$ref": "#"}, "propertyNames": {"pattern": "^a*a*a*b$"}}, {"a" * 50_000: 1}),
]


@pytest.mark.parametrize(("schema", "value"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_schemas_end_within_their_steps(schema: dict[str, Any], value: Any) -> None:
    validator = Validator(schema)
    started = time.process_time()
    with pytest.raises(TooManySteps):
        validator.problems(value, steps=INLINE_STEPS)
    assert time.process_time() - started < 0.5


def test_very_deep_values_are_refused() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    with pytest.raises(TooManySteps):
        Validator({"items": {"$ref": "#"}}).problems(value, steps=10**6)
    with pytest.raises(TooManySteps):
        Validator({"const": [1]}).problems(value, steps=10**6)


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


REFUSED: list[tuple[Any, str]] = [
    (nested(60), "nested at most 48 levels"),
    ({"default": nested(120)}, "nested at most 100 levels"),
    ({"anyOf": [{"minimum": number} for number in range(6000)]}, "at most 5,000 parts"),
    ({"description": "x" * 300_000}, "at most 262,144 bytes"),
    ({"type": "str"}, "`type` must be one of"),
    ({"type": 5}, "`type` of a schema must not be '5'"),
    ({"properties": []}, "`properties` of a schema must not be"),
    ({"items": 5}, "`items` of a schema must not be"),
    ({"anyOf": [5]}, "must be an object, true or false; got '5'"),
    ({"minimum": True}, "`minimum` of a schema must not be"),
    ({"multipleOf": 0}, "`multipleOf` must be above 0"),
    ({"required": [1]}, "`required` must list names"),
    ({"pattern": "("}, "is not a regular expression"),
    ({"pattern": r"(a)\1"}, "must not use groupref"),
    ({"pattern": "(?<=a)b"}, "must not use assert"),
    ({"pattern": "x" * 1001}, "at most 1,000 characters"),
    ({"pattern": "((a{100}){100}){100}"}, "too many states"),
    ({"anyOf": [{"pattern": f"a{{900}}{number}"} for number in range(10)]}, "too many states"),
    ({"$ref": "http://example.com/x.json"}, "must name a part of the same schema"),
    ({"$ref": "file:///etc/passwd"}, "must name a part of the same schema"),
    ({"$ref": "other.json#/a"}, "must name a part of the same schema"),
    ({"$ref": "#/$defs/x"}, "a part that the schema does not have"),
    ({"$dynamicRef": "#x"}, "`$dynamicRef` is not supported"),
    ({"unevaluatedProperties": False}, "`unevaluatedProperties` is not supported"),
    ({"enum": [{1}]}, "must be JSON data"),
    ({"enum": [float("nan")], "x": object()}, "must be JSON data"),
]


@pytest.mark.parametrize(("schema", "message"), REFUSED, ids=range(len(REFUSED)))
def test_unusable_schemas_are_refused(schema: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message.replace("$", r"\$").replace("(", r"\(")):
        compile_schema(schema)


@pytest.mark.parametrize(
    ("schema", "accepts"),
    [
        ({}, True),
        ({"type": "integer"}, False),
        ({"enum": ["a"]}, True),
        ({"enum": [1]}, False),
        ({"anyOf": [{"type": "integer"}, {"type": "string"}]}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array"}}}, False),
        ({"$ref": "#"}, True),
        (chain(45), False),
    ],
)
def test_schemas_that_accept_text_are_recognised(schema: dict[str, Any], accepts: bool) -> None:
    assert Validator(schema).accepts_text is accepts
