"""Text that is passed on as it is: source code, Markdown, JSON, YAML, XML, logs. Lines are places."""

from __future__ import annotations

from .encodings import decode
from .result import Builder, Output

_PLACE_LINES = 100


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
    output.add(document)
