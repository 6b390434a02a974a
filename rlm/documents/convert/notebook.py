"""Jupyter notebooks (ipynb): cells in order with their source and the text of their outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from .encodings import decode
from .html import page_text
from .result import Builder, ConversionError, Output

_COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_OBJECT = re.compile(r"<[\w. ]+(?: object)?(?: at 0x[0-9a-f]+)?>")


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a notebook to ``output``; every cell is a place."""
    document = Builder(path, "ipynb")
    try:
        notebook = json.loads(decode(data, document))
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"malformed JSON: {error}") from error
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if cells is None and isinstance(notebook, dict):
        cells = [cell for sheet in notebook.get("worksheets") or [] for cell in sheet.get("cells") or []]
    language = _language(notebook)
    for number, cell in enumerate(cells if isinstance(cells, list) else [], 1):
        if not isinstance(cell, dict):
            continue
        document.place(f"cell {number}")
        kind, source = cell.get("cell_type"), _text(cell.get("source") or cell.get("input"))
        if kind == "code":
            document.line(f"```{language}\n{source}\n```")
            for text in _outputs(cell.get("outputs")):
                document.line(f"Output:\n{text.rstrip()}")
        else:
            document.line(source)
        document.line()
    output.add(document)


def _language(notebook: Any) -> str:
    metadata = notebook.get("metadata") if isinstance(notebook, dict) else None
    named = metadata.get("language_info") if isinstance(metadata, dict) else None
    name = named.get("name") if isinstance(named, dict) else None
    return name[:30] if isinstance(name, str) and name.isalnum() else "python"


def _text(value: Any) -> str:
    return "".join(str(part) for part in value) if isinstance(value, list) else str(value or "")


def _outputs(outputs: Any) -> Iterator[str]:
    for item in outputs if isinstance(outputs, list) else ():
        if not isinstance(item, dict):
            continue
        if item.get("output_type") == "error":
            yield f"{item.get('ename', '')}: {item.get('evalue', '')}"
            continue
        inner = item.get("data")
        text = _COLORS.sub("", _best_form(inner if isinstance(inner, dict) else item))
        if text.strip():
            yield text


def _best_form(data: dict[str, Any]) -> str:
    """The form of an output that holds its text: the HTML table instead of the name of its object."""
    plain = _text(data.get("text/plain") or data.get("text"))
    if "text/html" in data and (not plain.strip() or _OBJECT.fullmatch(plain.strip())):
        return page_text(_text(data["text/html"]))[0]
    for kind in ("text/markdown", "text/latex"):
        if kind in data and (not plain.strip() or _OBJECT.fullmatch(plain.strip())):
            return _text(data[kind])
    return plain or f"[{', '.join(sorted(map(str, data)))}]"
