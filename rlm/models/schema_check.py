"""Validation of replies against the common part of JSON Schema, for endpoints that ignore it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_MAX_DEPTH = 100


def check_value(value: Any, schema: Any, place: str = "it", depth: int = 0) -> str | None:
    """The first violation in words; None if there is none. References and rare keywords are not checked."""
    if schema is False:
        return f"{place} is not allowed"
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return None
    if (named := schema.get("type")) is not None and not _has_type(value, named):
        return f"{place} must be of type {named}; got {type(value).__name__}"
    if isinstance(schema.get("enum"), list) and value not in schema["enum"]:
        return f"{place} must be one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        return f"{place} must be {schema['const']!r}"
    options = schema.get("anyOf")
    if isinstance(options, list) and options and all(check_value(value, part, place, depth + 1) for part in options):
        return f"{place} follows no option of its anyOf"
    if isinstance(value, dict):
        return _check_object(value, schema, place, depth)
    if isinstance(value, list) and "items" in schema:
        checks = (check_value(item, schema["items"], f"{place}[{at}]", depth + 1) for at, item in enumerate(value))
        return next((check for check in checks if check), None)
    return None


def _check_object(value: dict[str, Any], schema: Mapping[str, Any], place: str, depth: int) -> str | None:
    required = schema.get("required")
    missing = [name for name in required if name not in value] if isinstance(required, list) else []
    if missing:
        return f"{place} lacks {missing[0]!r}"
    declared = schema.get("properties")
    properties = declared if isinstance(declared, Mapping) else {}
    for name, part in value.items():
        if name in properties:
            violation = check_value(part, properties[name], f"{place}.{name}", depth + 1)
            if violation:
                return violation
    extra = schema.get("additionalProperties")
    unknown = [name for name in value if name not in properties]
    if extra is False and unknown and "patternProperties" not in schema:
        return f"{place} must not have {unknown[0]!r}"
    checks = (check_value(value[name], extra, f"{place}.{name}", depth + 1) for name in unknown)
    return next((check for check in checks if check), None)


def _has_type(value: Any, named: Any) -> bool:
    names = named if isinstance(named, list) else [named]
    for name in names:
        kinds = _TYPES.get(name) if isinstance(name, str) else None
        if kinds is None:
            return True
        if isinstance(value, kinds) and (name == "boolean" or not isinstance(value, bool)):
            return True
        if name == "integer" and isinstance(value, float) and value.is_integer():
            return True
    return False
