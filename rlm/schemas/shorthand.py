"""Schemas in short form, as people write them on a command line: ``name, age int, tags list[str]``."""

# schema  = type | fields
# fields  = field ("," field)*              one field a line, if there are several lines
# field   = name [type] ["?"] [":" text]    a field without a type is text; "?" makes it optional
# type    = item ("|" item)*
# item    = (word | literal | "list[" type "]" | "set[" type "]" | "dict[str," type "]" | "{" fields "}") "[]"*
# word    = str | int | float | bool | date | datetime | time | uuid | any | null
# literal = "text" | 'text' | number | true | false
#
# The text after a colon describes the field. If it is a type and the field has none, it is the type.

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

from rlm.core.errors import SchemaError

Schema: TypeAlias = dict[str, Any]

MAX_CHARS = 20_000
MAX_LEVELS = 20
WORDS: Mapping[str, Schema] = MappingProxyType({
    **{name: {"type": "string"} for name in ("str", "string", "text")},
    **{name: {"type": "integer"} for name in ("int", "integer")},
    **{name: {"type": "number"} for name in ("float", "number")},
    **{name: {"type": "boolean"} for name in ("bool", "boolean")},
    **{name: {"type": "null"} for name in ("null", "none", "None")},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "time": {"type": "string", "format": "time"},
    "uuid": {"type": "string", "format": "uuid"},
    "any": {},
    "object": {"type": "object"},
    "dict": {"type": "object"},
    "list": {"type": "array"},
    "array": {"type": "array"},
    "set": {"type": "array", "uniqueItems": True},
    "true": {"const": True},
    "false": {"const": False},
})  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:(?P<literal>"[^"\n]*"|'[^'\n]*'|-?\d+(?:\.\d+)?)|(?P<name>[^\W\d][\w-]*)|(?P<mark>\[\]|[][{}|?:,]))"""
)


def read_shorthand(text: str) -> Schema:
    """The JSON schema of a short form.

    Raises:
        SchemaError: the text does not follow the grammar; the message names the place.
    """
    if len(text) > MAX_CHARS:
        raise SchemaError(f"a schema in short form must have at most {MAX_CHARS:,} characters; got {len(text):,}")
    reader = _Reader(text)
    if not text.strip():
        raise SchemaError("`--schema` must not be empty. Write, for instance: name, age int, tags list[str]")
    if reader.starts_with_type():
        schema = reader.type(0)
        if not reader.at_end:
            raise reader.error("the end")
        return schema
    schema = reader.fields(0)
    if not reader.at_end:
        raise reader.error("a comma, or the end")
    return schema


class _Reader:
    """Reads one text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._by_lines = "\n" in text.strip()

    @property
    def at_end(self) -> bool:
        return not self._text[self._at :].strip()

    def starts_with_type(self) -> bool:
        """True if the whole text is a type: it begins with a word for one, a literal or a bracket."""
        kind, word = self._peek()
        following = self._text[self._at :].strip()[len(word) :].lstrip()
        is_type = kind == "literal" or (kind == "name" and word in WORDS)
        return word == "{" or (is_type and (not following or following[0] in "[|"))

    def fields(self, level: int) -> Schema:
        """The schema of an object: its fields, all required unless marked."""
        properties: Schema = {}
        required: list[str] = []
        while True:
            if not self._by_lines or level:
                self._skip_blank_lines()
            name, is_required, schema = self._field(level)
            if name in properties:
                raise SchemaError(f"the schema has the field {name!r} twice")
            properties[name] = schema
            if is_required:
                required.append(name)
            if not self._take_separator():
                break
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def type(self, level: int) -> Schema:
        """A type: one item, or several with bars between them."""
        if level > MAX_LEVELS:
            raise SchemaError(f"a schema in short form must be nested at most {MAX_LEVELS} levels deep")
        items = [self._item(level)]
        while self._take("|"):
            items.append(self._item(level))
        if len(items) == 1:
            return items[0]
        if all(set(item) == {"const"} for item in items):
            return {"enum": [item["const"] for item in items]}
        return {"anyOf": items}

    def _field(self, level: int) -> tuple[str, bool, Schema]:
        kind, word = self._peek()
        if kind == "name":
            name = word
        elif kind == "literal" and word[0] in "\"'":
            name = word[1:-1]
        else:
            raise self.error("the name of a field")
        self._next()
        is_required = not self._take("?")
        schema = None if self._peek()[1] in ("", ",", ":", "}") or self._at_line_end() else self.type(level + 1)
        is_required = not self._take("?") and is_required
        if self._take(":"):
            schema = self._describe(schema, level)
        return name, is_required, {"type": "string"} if schema is None else schema

    def _describe(self, schema: Schema | None, level: int) -> Schema:
        """Reads the text after a colon: a type, or a description that ends with the field."""
        start = self._at
        if schema is None:
            try:
                text = self.type(level + 1)
                if self.at_end or self._at_line_end() or self._peek()[1] in (",", "}"):
                    return text
            except SchemaError:
                pass
            self._at = start
        ends = "\n" if self._by_lines else ",}" if level else ","
        while self._at < len(self._text) and self._text[self._at] not in ends:
            self._at += 1
        described = self._text[start : self._at].strip()
        return {**(schema or {"type": "string"}), **({"description": described} if described else {})}

    def _item(self, level: int) -> Schema:
        kind, word = self._peek()
        if word == "{":
            self._next()
            schema = self.fields(level + 1)
            self._expect("}")
        elif kind == "literal":
            self._next()
            schema = {"const": word[1:-1] if word[0] in "\"'" else json.loads(word)}
        elif kind == "name":
            self._next()
            schema = self._word(word, level)
        else:
            raise self.error("a type")
        while self._take("[]"):
            schema = {"type": "array", "items": schema}
        return schema

    def _word(self, word: str, level: int) -> Schema:
        if word in ("list", "array", "set") and self._take("["):
            schema: Schema = {"type": "array", "items": self.type(level + 1)}
            self._expect("]")
            return {**schema, "uniqueItems": True} if word == "set" else schema
        if word == "dict" and self._take("["):
            item = self.type(level + 1)
            if self._take(","):
                if item != WORDS["str"]:
                    raise SchemaError("the keys of a dict must be str: dict[str, int]")
                item = self.type(level + 1)
            self._expect("]")
            return {"type": "object", "additionalProperties": item}
        if word not in WORDS:
            near = difflib.get_close_matches(word, WORDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "use str, int, float, bool, date, list[...] or a literal"
            raise SchemaError(f"unknown type {word!r} in the schema: {hint}")
        return dict(WORDS[word])

    def _take_separator(self) -> bool:
        """Reads what separates two fields; False after the last one."""
        if self._take(","):
            return not self.at_end
        return self._by_lines and self._at_line_end() and not self.at_end and self._peek()[1] != "}"

    def _at_line_end(self) -> bool:
        return self._by_lines and self._text[self._at :].lstrip(" \t\r")[:1] == "\n"

    def _skip_blank_lines(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _peek(self) -> tuple[str, str]:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            return "", self._text[self._at :].strip()[:1]
        return match.lastgroup, match[match.lastgroup]

    def _next(self) -> None:
        match = _TOKEN.match(self._text, self._at)
        self._at = match.end() if match else len(self._text)

    def _take(self, mark: str) -> bool:
        if self._peek() != ("mark", mark):
            return False
        self._next()
        return True

    def _expect(self, mark: str) -> None:
        if not self._take(mark):
            raise self.error(repr(mark))

    def error(self, wanted: str) -> SchemaError:
        """The error for a text that does not go on as the grammar says."""
        rest = self._text[self._at :].strip()
        got = f"{rest[:30]!r}" if rest else "the end"
        return SchemaError(f"the schema must go on with {wanted} at character {self._at + 1}; got {got}")
