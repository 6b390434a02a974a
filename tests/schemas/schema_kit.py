"""Generates schemas, each with a value that fits and one that does not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

Schema = dict[str, Any]


class Sample(NamedTuple):
    """A schema, a valid value and an invalid one."""

    schema: Schema
    valid: Any
    invalid: Any


def sample(rng: random.Random, level: int = 0) -> Sample:
    """A random schema with its values. Containers become rarer with every level."""
    makers: list[Callable[[random.Random, int], Sample]] = [_integer, _number, _text, _boolean, _choice, _date]
    if level < 4:
        makers += [_object, _object, _array, _pair, _union, _mapping, _reference]
    return rng.choice(makers)(rng, level)


def _integer(rng: random.Random, _: int) -> Sample:
    low = rng.randint(-10, 10)
    schema = {"type": "integer", "minimum": low, "maximum": low + 20}
    return Sample(schema, rng.randint(low, low + 20), rng.choice([low - 1, low + 21, low + 0.5, "x", True, None, []]))


def _number(rng: random.Random, _: int) -> Sample:
    return Sample(
        {"type": "number", "exclusiveMinimum": 0}, rng.choice([1, 0.5, 2e10]), rng.choice([0, -0.5, "one", False])
    )


def _text(rng: random.Random, _: int) -> Sample:
    word = rng.choice(["abc", "é", "a b", 'quo"te', "line\nbreak", "", "{}", "12"])
    schema = {"type": "string", "minLength": len(word), "maxLength": len(word)}
    return Sample(schema, word, rng.choice([word + "x", 3, None, [word]]))


def _boolean(rng: random.Random, _: int) -> Sample:
    return Sample({"type": "boolean"}, rng.random() < 0.5, rng.choice([0, 1, "yes", None]))


def _choice(rng: random.Random, _: int) -> Sample:
    values = rng.sample(["red", "blue", 1, 2.5, None, [1], {"a": 1}], 3)
    return Sample({"enum": values}, rng.choice(values), rng.choice(["green", 77, [2], {"a": 2}, False]))


def _date(rng: random.Random, _: int) -> Sample:
    return Sample(
        {"type": "string", "format": "date"}, f"20{rng.randint(10, 30)}-01-31", rng.choice(["2025-02-30", "x", 5])
    )


def _object(rng: random.Random, level: int) -> Sample:
    names = rng.sample(["name", "x y", "größe", "a", "kind", "$ref", "type", "properties"], rng.randint(1, 4))
    parts = {name: sample(rng, level + 1) for name in names}
    required = [name for name in names if rng.random() < 0.7]
    closed = rng.random() < 0.7 or not required
    schema: Schema = {
        "type": "object",
        "properties": {name: part.schema for name, part in parts.items()},
        "required": required,
    }
    if closed:
        schema["additionalProperties"] = False
    valid = {name: part.valid for name, part in parts.items() if name in required or rng.random() < 0.5}
    wrong = rng.choice(names)
    broken: list[Any] = [{**valid, wrong: parts[wrong].invalid}, [valid], "text"]
    broken += [{**valid, "unknown": 1}] if closed else []
    broken += [{name: part for name, part in valid.items() if name != required[0]}] if required else []
    return Sample(schema, valid, rng.choice(broken))


def _array(rng: random.Random, level: int) -> Sample:
    item = sample(rng, level + 1)
    count = rng.randint(1, 3)
    schema = {"type": "array", "items": item.schema, "minItems": count}
    broken = [[item.valid] * count + [item.invalid], [item.valid] * (count - 1), {"0": item.valid}]
    return Sample(schema, [item.valid] * count, rng.choice(broken))


def _pair(rng: random.Random, level: int) -> Sample:
    first, second = sample(rng, level + 1), sample(rng, level + 1)
    schema = {"type": "array", "prefixItems": [first.schema, second.schema], "items": False, "minItems": 2}
    broken = [[first.valid], [first.valid, second.invalid], [first.valid, second.valid, 1]]
    return Sample(schema, [first.valid, second.valid], rng.choice(broken))


def _union(rng: random.Random, level: int) -> Sample:
    part = sample(rng, level + 1)
    schema = {"anyOf": [{"type": "object", "properties": {"only": {"const": 99}}, "required": ["only"]}, part.schema]}
    invalid = {"only": 98} if isinstance(part.invalid, dict) and part.invalid.get("only") == 99 else part.invalid
    return Sample(schema, rng.choice([part.valid, {"only": 99}]), invalid)


def _mapping(rng: random.Random, level: int) -> Sample:
    item = sample(rng, level + 1)
    schema = {"type": "object", "additionalProperties": item.schema, "propertyNames": {"pattern": "^k[0-9]*$"}}
    return Sample(
        schema, {"k1": item.valid}, rng.choice([{"k1": item.valid, "k2": item.invalid}, {"x": item.valid}, []])
    )


def _reference(rng: random.Random, level: int) -> Sample:
    """A list of lists, whose definition refers to itself."""
    if level:
        return _array(rng, level)
    item = sample(rng, 4)
    node = {
        "type": "object",
        "properties": {"value": item.schema, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
        "required": ["value"],
    }
    schema = {"$ref": "#/$defs/node", "$defs": {"node": node}}
    last = {"value": item.valid, "next": None}
    return Sample(schema, {"value": item.valid, "next": last}, {"value": item.valid, "next": {"value": item.invalid}})
