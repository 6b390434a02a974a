"""Limits of schemas. A schema can come from a cell, so it is checked before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from rlm.core.errors import SchemaError

MAX_BYTES = 256 * 1024
MAX_PARTS = 5_000  # subschemas
MAX_DEPTH = 48  # levels of nested subschemas
MAX_NESTING = 100  # levels of nested JSON, each subschema of about two

MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
SINGLE = frozenset({
    "items", "additionalItems", "additionalProperties", "propertyNames", "contains", "not", "if", "then", "else",
})  # fmt: skip
REFUSED = {
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "unevaluatedProperties": "use additionalProperties",
    "unevaluatedItems": "use items",
}
_SHAPES: dict[str, type | tuple[type, ...]] = {
    "type": (str, list),
    "enum": list,
    "required": list,
    "pattern": str,
    "format": str,
    "$ref": str,
    "uniqueItems": bool,
    "dependentRequired": dict,
    **dict.fromkeys(MAPS, dict),
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), list),
    "prefixItems": list,
    **dict.fromkeys(SINGLE - {"items"}, (dict, bool)),
    "items": (dict, bool, list),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), (int, float)),
    **dict.fromkeys(
        (
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minContains",
            "maxContains",
            "minProperties",
            "maxProperties",
        ),
        (int, float),
    ),
}
TYPE_NAMES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})


def plain_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the schema in JSON types.

    Raises:
        SchemaError: it is not JSON, or too large.
    """
    try:
        data = orjson.dumps(schema if type(schema) is dict else dict(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"a schema must be JSON data; got {error}") from None
    if len(data) > MAX_BYTES:
        raise SchemaError(f"a schema must have at most {MAX_BYTES:,} bytes; got {len(data):,}")
    plain: dict[str, Any] = orjson.loads(data)
    level: list[Any] = [plain]
    for _ in range(MAX_NESTING):
        level = [part for item in level if isinstance(item, dict | list) for part in _parts(item)]
    if level:
        raise SchemaError(f"a schema must be nested at most {MAX_NESTING} levels deep")
    return plain


def _parts(item: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item


def check_shape(schema: object) -> None:
    """Checks the keywords of one schema, without its subschemas. Raises SchemaError."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise SchemaError(f"a schema must be an object, true or false; got {str(schema)[:40]!r}")
    for keyword, value in schema.items():
        shape = _SHAPES.get(keyword)
        # A boolean is an int in Python; draft 4 has booleans for exclusive bounds, which are refused too.
        if shape is not None and (not isinstance(value, shape) or (shape == (int, float) and isinstance(value, bool))):
            raise SchemaError(f"`{keyword}` of a schema must not be {str(value)[:40]!r}")
        if keyword in REFUSED:
            raise SchemaError(f"`{keyword}` is not supported: {REFUSED[keyword]}")
    named = schema.get("type", [])
    for name in [named] if isinstance(named, str) else named:
        if name not in TYPE_NAMES:
            raise SchemaError(f"`type` must be one of {', '.join(sorted(TYPE_NAMES))}; got {str(name)[:40]!r}")
    if not all(isinstance(name, str) for name in schema.get("required", [])):
        raise SchemaError("`required` must list names of properties")
    if schema.get("multipleOf", 1) <= 0:
        raise SchemaError(f"`multipleOf` must be above 0; got {schema['multipleOf']}")


def resolve(root: dict[str, Any], reference: str) -> Any:
    """The part of a schema that a reference names. Nothing outside the schema is ever read.

    Raises:
        SchemaError: the reference leaves the schema, or names nothing.
    """
    if reference != "#" and not reference.startswith("#/"):
        raise SchemaError(f"`$ref` must name a part of the same schema, as #/$defs/...; got {reference[:80]!r}")
    part: Any = root
    for step in reference.split("/")[1:]:
        key = step.replace("%25", "%").replace("%22", '"').replace("~1", "/").replace("~0", "~")
        if isinstance(part, dict) and key in part:
            part = part[key]
        elif isinstance(part, list) and key.isdecimal() and len(key) < 6 and int(key) < len(part):
            part = part[int(key)]
        else:
            raise SchemaError(f"`$ref` names a part that the schema does not have: {reference[:80]!r}")
    return part
