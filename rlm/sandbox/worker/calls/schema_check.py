"""Checks data against the JSON schema keywords that prompts for models use. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_TYPES: dict[str, Callable[[object], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "integer": lambda v: (isinstance(v, int) and not isinstance(v, bool)) or (isinstance(v, float) and v.is_integer()),
    "number": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
}


def find_mismatch(value: Any, schema: Mapping[str, Any], path: str = "the reply") -> str | None:
    """Describes the first mismatch in one sentence; None if the value follows the schema."""
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
    checks = [_TYPES[name] for name in names if name in _TYPES]
    if checks and not any(check(value) for check in checks):
        return f"{path} is {_show(value)}, not {' or '.join(map(str, names))}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} is {_show(value)}, not one of {schema['enum']}"
    if "const" in schema and value != schema["const"]:
        return f"{path} is {_show(value)}, not {schema['const']!r}"
    if isinstance(value, dict):
        return _find_in_object(value, schema, path)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return _first(find_mismatch(item, schema["items"], f"{path}[{i}]") for i, item in enumerate(value))
    return None


def _find_in_object(value: dict[str, Any], schema: Mapping[str, Any], path: str) -> str | None:
    for name in schema.get("required", ()):
        if name not in value:
            return f"{path} has no {name!r}"
    parts = schema.get("properties", {})
    if schema.get("additionalProperties") is False and (extra := sorted(set(value) - set(parts))):
        return f"{path} has {extra[0]!r}, which the schema does not allow"
    return _first(find_mismatch(value[k], part, f"{path}[{k!r}]") for k, part in parts.items() if k in value)


def _first(mismatches: Any) -> str | None:
    return next((item for item in mismatches if item is not None), None)


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
