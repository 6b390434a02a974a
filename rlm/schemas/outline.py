"""The short form of a schema that models read: types in the style of TypeScript, with constraints as comments."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rlm.schemas.values import shorten

MAX_CHARS = 6_000
MAX_LEVELS = 12
MAX_VALUES = 30
MAX_NOTE_CHARS = 160
_INDENT = "  "
_FORMATS = frozenset({"date", "date-time", "time", "uuid", "email", "uri"})
_CONSTRAINTS = (
    ("minimum", "at least {}"), ("exclusiveMinimum", "above {}"), ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"), ("multipleOf", "a multiple of {}"), ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"), ("pattern", "matches {}"), ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"), ("minProperties", "at least {} keys"), ("maxProperties", "at most {} keys"),
)  # fmt: skip


def outline(schema: Mapping[str, Any]) -> str:
    """The schema in short form, of at most ``MAX_CHARS`` characters."""
    outliner = _Outliner()
    lines = [_with_note(outliner.text(schema, "", 0), _note(schema) if "properties" not in schema else "")]
    definitions = {**_mapping(schema.get("definitions")), **_mapping(schema.get("$defs"))}
    written: set[str] = set()
    while (waiting := [name for name in outliner.names if name not in written]) and sum(map(len, lines)) < MAX_CHARS:
        for name in waiting:
            written.add(name)
            part = definitions.get(name)
            if isinstance(part, Mapping):
                note = _note(part)
                lines.append(f"{_name(name)} = {_with_note(outliner.text(part, '', 0), note)}")
    text = "\n".join(lines).replace("```", '"""')  # it is shown between such marks
    if len(text) <= MAX_CHARS:
        return text
    return (
        text[:MAX_CHARS].rpartition("\n")[0] + "\n... (cut; an answer that does not fit is returned with the reasons)"
    )


class _Outliner:
    """Writes types, and collects the names of definitions that they mention, in order."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def text(self, schema: Any, indent: str, level: int) -> str:
        """The type of a schema. Lines after the first one are indented by ``indent``."""
        if not isinstance(schema, Mapping):
            return "never" if schema is False else "any"
        if level > MAX_LEVELS:
            return "..."
        parts = [part for part in (self._reference(schema), self._values(schema)) if part]
        for keyword, joint in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " & ")):
            if isinstance(options := schema.get(keyword), list) and options:
                texts = dict.fromkeys(self.text(option, indent, level + 1) for option in options[:MAX_VALUES])
                parts.append(joint.join(texts) + (f"{joint}..." if len(options) > MAX_VALUES else ""))
        if not parts:
            named = schema.get("type") or _guess_type(schema)
            names = [named] if isinstance(named, str) else list(named)
            parts.append(" | ".join(self._of_type(str(name), schema, indent, level) for name in names) or "any")
        return " & ".join(parts)

    def _reference(self, schema: Mapping[str, Any]) -> str:
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return ""
        if reference == "#":
            return "(the whole form again)"
        name = reference.rpartition("/")[2]
        self.names.setdefault(name)
        return _name(name)

    def _values(self, schema: Mapping[str, Any]) -> str:
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if not isinstance(values, list):
            return ""
        shown = [_literal(value) for value in values[:MAX_VALUES]]
        return " | ".join([*shown, *(["..."] if len(values) > MAX_VALUES else [])]) or "never"

    def _of_type(self, name: str, schema: Mapping[str, Any], indent: str, level: int) -> str:
        if name == "object":
            return self._object(schema, indent, level)
        if name == "string" and schema.get("format") in _FORMATS:
            return str(schema["format"])
        return self._array(schema, indent, level) if name == "array" else name

    def _array(self, schema: Mapping[str, Any], indent: str, level: int) -> str:
        items, first = schema.get("items", True), schema.get("prefixItems")
        if isinstance(items, list):
            items, first = schema.get("additionalItems", True), items
        if isinstance(first, list) and first:
            texts = [self.text(item, indent, level + 1) for item in first[:MAX_VALUES]]
            rest = [] if items is False else [f"...{self.text(items, indent, level + 1)}[]"]
            return f"[{', '.join([*texts, *(rest if items is not True else [])])}]"
        text = self.text(items, indent, level + 1)
        return f"({text})[]" if " | " in text.partition("\n")[0] or " & " in text.partition("\n")[0] else f"{text}[]"

    def _object(self, schema: Mapping[str, Any], indent: str, level: int) -> str:
        inner, lines = indent + _INDENT, []
        required, properties = schema.get("required", ()), _mapping(schema.get("properties"))
        undescribed = {name: True for name in required if name not in properties}
        for name, part in {**properties, **undescribed}.items():
            mark = "" if name in required else "?"
            text = f"{inner}{_name(name)}{mark}: {self.text(part, inner, level + 1)}"
            lines.append(_with_note(text, _note(part)))
        extra = schema.get("additionalProperties")
        if isinstance(extra, Mapping) or (extra is True and not lines):
            lines.append(_with_note(f"{inner}[key: string]: {self.text(extra, inner, level + 1)}", _note(extra)))
        return "\n".join(["{", *lines, f"{indent}}}"]) if lines else "object"


def _guess_type(schema: Mapping[str, Any]) -> str:
    if "properties" in schema or "additionalProperties" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "any"


def _note(schema: Any) -> str:
    """Constraints and description, on one line."""
    if not isinstance(schema, Mapping):
        return ""
    notes = [
        words.format(shorten(str(schema[keyword]), 80))
        for keyword, words in _CONSTRAINTS
        if keyword in schema and not (keyword.endswith("Items") and "prefixItems" in schema)
    ]
    if schema.get("uniqueItems") is True:
        notes.append("no duplicates")
    described = schema.get("description")
    if isinstance(described, str) and described.strip():
        notes.append(shorten(described, MAX_NOTE_CHARS))
    return "; ".join(notes)


def _with_note(text: str, note: str) -> str:
    """Adds a comment to the first line of a text."""
    first, separator, rest = text.partition("\n")
    return f"{first}  // {note}{separator}{rest}" if note else text


def _literal(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), 80)


def _name(name: str) -> str:
    return name if name.isidentifier() and len(name) < 80 else json.dumps(shorten(name, 80), ensure_ascii=False)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
