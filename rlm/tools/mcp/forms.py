"""Forms of a server's tools: a Python signature from a JSON schema, and plain data from a result. Pure."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Mapping
from typing import Any

from rlm.core.tools import ToolParameter, cut_end, one_line
from rlm.tools.function_tool import MAX_NAME_CHARS, RESERVED

MAX_PARAMETERS = 60
MAX_ANNOTATION_CHARS = 80
_TYPES = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "object": "dict"}


def python_name(name: str, prefix: str) -> str:
    """The name of a tool in the REPL: other characters become underscores, and taken names get an ending."""
    text = re.sub(r"\W", "_", f"{prefix}{name}", flags=re.ASCII)[: MAX_NAME_CHARS - 5].lstrip("_")
    text = text if text.isidentifier() else f"tool_{text}"
    taken = keyword.iskeyword(text) or text in RESERVED or f"{text}_async" in RESERVED or hasattr(builtins, text)
    return f"{text}_tool" if taken else text


def parameters_of(schema: Mapping[str, Any]) -> tuple[ToolParameter, ...]:
    """The parameters of a tool: required ones first. Properties whose names Python cannot use are in ``**more``."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    given = schema.get("required")
    required = [name for name in given if name in properties] if isinstance(given, list) else []
    names = [*required, *(name for name in properties if name not in required)]
    usable = [name for name in names if _is_usable(name)][:MAX_PARAMETERS]
    parameters = [
        ToolParameter(
            name,
            annotation=annotation_of(properties[name]),
            default=None if name in required else _default_of(properties[name]),
        )
        for name in usable
    ]
    is_open = schema.get("additionalProperties") is not False and (not properties or "additionalProperties" in schema)
    if len(usable) < len(names) or is_open:
        parameters.append(ToolParameter("more", "named") if "more" not in usable else ToolParameter("rest_", "named"))
    return tuple(parameters)


def _is_usable(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name) and len(name) <= MAX_NAME_CHARS


def _default_of(part: Any) -> str:
    if not isinstance(part, dict) or "default" not in part:
        return "..."
    return cut_end(one_line(repr(part["default"])), MAX_ANNOTATION_CHARS)


def annotation_of(part: Any, level: int = 0) -> str:
    """The type of a property, as source text."""
    if not isinstance(part, dict) or level > 3:
        return ""
    if isinstance(part.get("enum"), list):
        values = ", ".join(repr(value) for value in part["enum"][:8])
        return cut_end(one_line(f"Literal[{values}]"), MAX_ANNOTATION_CHARS)
    options = part.get("anyOf") or part.get("oneOf")
    if isinstance(options, list):
        shown = [annotation_of(option, level + 1) or "Any" for option in options[:6]]
        return cut_end(" | ".join(dict.fromkeys(shown)), MAX_ANNOTATION_CHARS)
    named = part.get("type")
    if named == "array":
        inner = annotation_of(part.get("items"), level + 1)
        return f"list[{inner}]" if inner else "list"
    if isinstance(named, list):
        return " | ".join(_TYPES.get(name, "Any") for name in named if isinstance(name, str))
    return _TYPES.get(named, "") if isinstance(named, str) else ""


def plain_result(result: Any) -> object:
    """The plain data of a ``CallToolResult``: its structured content, its text, or its parts."""
    structured = result.structured_content
    if structured is not None:
        only = isinstance(structured, dict) and structured.keys() == {"result"}
        return structured["result"] if only else structured
    parts = [_part(block) for block in result.content]
    if all(isinstance(part, str) for part in parts):
        return "\n".join(str(part) for part in parts)
    return parts[0] if len(parts) == 1 else parts


def text_of(result: Any) -> str:
    """The text of a result that is an error."""
    return "\n".join(part for part in map(_part, result.content) if isinstance(part, str))


def _part(block: Any) -> object:
    if block.type == "text":
        return block.text
    inner = getattr(block, "resource", None)
    if inner is not None and isinstance(getattr(inner, "text", None), str):
        return inner.text
    return block.model_dump(mode="json", exclude_none=True)
