"""Text that is passed on as it is: source code, Markdown, JSON, YAML, XML, logs. Lines are places."""

from __future__ import annotations

import json

from .encodings import decode
from .result import Builder, Output

_PLACE_LINES = 100
_CHECKED_CHARS = 5_000_000


def convert(data: bytes, path: str, output: Output, kind: str, encoding: str = "") -> None:
    """Adds a text file to ``output``; every hundredth line starts a place."""
    document = Builder(path, kind)
    text = decode(data, document, declared=encoding)
    start = count = 0
    while True:
        end = start
        for _ in range(_PLACE_LINES):
            end = text.find("\n", end) + 1
            if not end:
                end = len(text)
                break
        document.place(f"line {count + 1}")
        document.write(text[start:end])
        start, count = end, count + _PLACE_LINES
        if start >= len(text):
            break
    if kind == "jsonl":
        _check_lines(text, document)
    output.add(document)


def _check_lines(text: str, document: Builder) -> None:
    """Notes lines that are not JSON, among those at the start of the file."""
    lines = text[:_CHECKED_CHARS].splitlines()
    if len(text) > _CHECKED_CHARS:
        lines.pop()
    wrong = [number for number, line in enumerate(lines, 1) if line.strip() and not _is_json(line)]
    if wrong:
        count = "1 line is" if len(wrong) == 1 else f"{len(wrong):,} lines are"
        document.note(f"{count} not valid JSON, the first is line {wrong[0]:,}")


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
