"""Jupyter notebooks (ipynb): cells in order with their source and the text of their outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .encodings import decode
from .html import page_text
from .result import Builder, ConversionError, Output


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
    for number, cell in enumerate(cells if isinstance(cells, list) else [], 1):
        if not isinstance(cell, dict):
            continue
        document.place(f"cell {number}")
        kind, source = cell.get("cell_type"), _text(cell.get("source") or cell.get("input"))
        if kind == "code":
            document.line(f"```python\n{source}\n```")
            for text in _outputs(cell.get("outputs")):
                document.line(f"Output:\n{text.rstrip()}")
        else:
            document.line(source)
        document.line()
    output.add(document)


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
        data = inner if isinstance(inner, dict) else item
        if "text/plain" in data or "text" in item:
            text = _text(data.get("text/plain") or item.get("text"))
        elif "text/html" in data:
            text = page_text(_text(data["text/html"]))[0]
        else:
            text = f"[{', '.join(sorted(map(str, data)))}]"
        if text.strip():
            yield text
