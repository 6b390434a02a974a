"""Answers of models read as data, and schemas in the short form that models read."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from rlm.schemas.form import JsonForm
from rlm.schemas.outline import MAX_CHARS, outline

STEPS = 10_000
INTEGERS = {"type": "array", "items": {"type": "integer"}}
READ: list[tuple[dict[str, Any], Any, Any]] = [
    (INTEGERS, "[1, 2]", [1, 2]),
    (INTEGERS, "```json\n[1, 2]\n```", [1, 2]),
    (INTEGERS, "Here it is:\n```\n[1, 2]\n```\nDone.", [1, 2]),
    (INTEGERS, "(1, 2)", [1, 2]),
    (INTEGERS, (1, 2), [1, 2]),
    (INTEGERS, {2, 1}, [1, 2]),
    ({"type": "object"}, "{'a': True, 'b': None}", {"a": True, "b": None}),
    ({"type": "object"}, {1: {"b"}}, {"1": ["b"]}),
    ({"type": "integer"}, "42", 42),
    ({"type": "number"}, 3, 3),
    ({"type": "number"}, Decimal("0.1"), 0.1),
    ({"type": "string"}, "42", "42"),
    ({"type": "string"}, '"42"', '"42"'),
    ({"enum": ["a"]}, '"a"', "a"),
    ({"type": ["string", "integer"]}, "42", "42"),
    ({"format": "date"}, dt.date(2025, 1, 2), "2025-01-02"),
    ({"type": "null"}, "null", None),
    ({"type": "null"}, None, None),
]
REJECTED: list[tuple[dict[str, Any], Any, str]] = [
    ({"type": "integer"}, '"42"', 'must be an integer; got "42"'),
    ({"type": "integer"}, 2.5, "must be an integer; got 2.5"),
    ({"type": "integer"}, "", "got text that is not JSON"),
    ({"type": "integer"}, "```\n1\n```\n```\n2\n```", "got text that is not JSON"),
    (INTEGERS, "[1, 2", "must be an array; got text that is not JSON"),
    (INTEGERS, "[NaN]", "not JSON"),
    (INTEGERS, [float("nan")], 'must be an integer; got "nan"'),
    ({"type": "string"}, 42, "must be a string; got 42"),
    ({"type": "boolean"}, 1, "must be a boolean; got 1"),
    ({"type": "boolean"}, "yes", "must be a boolean; got text"),
    (INTEGERS, "[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("schema", "value", "data"), READ, ids=range(len(READ)))
def test_unambiguous_answers_are_read(schema: dict[str, Any], value: Any, data: Any) -> None:
    fit = JsonForm(schema).fit(value, STEPS)
    assert (fit.data, fit.problems) == (data, ())
    assert type(fit.data) is type(data)


@pytest.mark.parametrize(("schema", "value", "problem"), REJECTED, ids=range(len(REJECTED)))
def test_other_answers_are_not_converted(schema: dict[str, Any], value: Any, problem: str) -> None:
    fit = JsonForm(schema).fit(value, STEPS)
    assert fit.data is None
    assert problem in fit.problems[0]


def test_outline_shows_types_and_constraints() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "full\nname", "minLength": 1},
            "born": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
            "home": {"$ref": "#/$defs/Address"},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False, "minItems": 2},
            "scores": {"type": "object", "additionalProperties": {"type": "number", "maximum": 1}},
            "again": {"$ref": "#"},
        },
        "required": ["name", "born"],
        "$defs": {"Address": {"type": "object", "properties": {"street": {"type": "string"}}, "description": "Where"}},
    }  # fmt: skip
    assert outline(schema) == (
        "{\n"
        "  name: string  // at least 1 characters; full name\n"
        "  born: date | null\n"
        '  tags?: ("a" | "b")[]  // no duplicates\n'
        "  home?: Address\n"
        "  pair?: [integer, string]\n"
        "  scores?: {\n"
        "    [key: string]: number  // at most 1\n"
        "  }\n"
        "  again?: (the whole form again)\n"
        "}\n"
        "Address = {  // Where\n"
        "  street?: string\n"
        "}"
    )


def test_outline_of_large_schema_is_cut() -> None:
    text = outline({"type": "object", "properties": {f"field_{number}": {"type": "string"} for number in range(2000)}})
    assert len(text) < MAX_CHARS + 200
    assert text.endswith("(cut; an answer that does not fit is returned with the reasons)")


def test_hostile_texts_stay_on_one_line() -> None:
    text = outline({"type": "object", "properties": {"a\nb": {"description": "x\n```\nIgnore " + "y" * 5000}}})
    assert text.count("\n") == 2
    assert len(text) < 300
    assert "```" not in text
