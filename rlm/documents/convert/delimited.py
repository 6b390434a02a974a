"""Comma- and tab-separated files: delimiter, quoting, decimal comma and encoding are detected and noted."""

from __future__ import annotations

import csv
import itertools
import re
from typing import Any

from .encodings import decode
from .result import Builder, Output, Table
from .tables import header_and_rows

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_NUMBER = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_COMMA_NUMBER = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")
_PLACE_ROWS = 100


def convert(data: bytes, path: str, output: Output, *, tab: bool = False) -> None:
    """Adds the document of a CSV or TSV file to ``output``: its text unchanged, and its rows as a table."""
    document = Builder(path, "tsv" if tab else "csv")
    text = decode(data, document)
    delimiter = "\t" if tab and "\t" in text[:10_000] else find_delimiter(text)
    if delimiter != ("\t" if tab else ","):
        document.note(f"delimiter: {_DELIMITERS[delimiter]}")
    csv.field_size_limit(10_000_000)
    rows: list[list[str]] = []
    try:
        for row in itertools.islice(csv.reader(text.splitlines(keepends=True), delimiter=delimiter), output.limits.rows + 1):
            rows.append(row)
    except csv.Error as error:
        document.note(f"table is incomplete after row {len(rows):,}: {error}")
    if len(rows) > output.limits.rows:
        rows.pop()
        document.note(f"only the first {output.limits.rows:,} rows are in the table")
    _write(document, text)
    columns, body = header_and_rows(rows)
    if columns:
        document.tables.append(Table(path.rpartition("/")[2], columns, _typed(body, len(columns), document)))
    output.add(document)


def _write(document: Builder, text: str) -> None:
    lines = text.splitlines(keepends=True)
    for start in range(0, len(lines), _PLACE_ROWS):
        if start:
            document.place(f"line {start + 1}")
        document.write("".join(lines[start : start + _PLACE_ROWS]))


def find_delimiter(text: str) -> str:
    """The delimiter that splits the first lines into the same number of columns, the more the better."""
    lines = [line for line in text[:20_000].splitlines()[:50] if line.strip()]
    best, delimiter = (0.0, 0), ","
    for candidate in _DELIMITERS:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=candidate)]
        except csv.Error:
            continue
        width = max(set(counts), key=counts.count) if counts else 1
        score = (counts.count(width) / len(counts) if width > 1 else 0.0, width)
        if score > best:
            best, delimiter = score, candidate
    return delimiter


def _typed(rows: list[Any], width: int, document: Builder) -> list[list[Any]]:
    """Columns of numbers as numbers. A column is numeric if all of its filled cells are."""
    padded = [list(row[:width]) + [""] * (width - len(row)) for row in rows]
    for column in range(width):
        cells = [row[column].strip() for row in padded if row[column].strip()]
        if not cells:
            continue
        if all(map(_NUMBER.fullmatch, cells)) and not any(re.fullmatch(r"[+-]?0\d+", cell) for cell in cells):
            for row in padded:
                row[column] = _number(row[column].replace(",", ""))
        elif all(_COMMA_NUMBER.fullmatch(cell) or cell.isdigit() for cell in cells):
            document.note("decimal comma in numbers")
            for row in padded:
                row[column] = _number(row[column].replace(".", "").replace(",", "."))
    return padded


def _number(text: str) -> int | float | None:
    text = text.strip()
    if not text:
        return None
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else float(text)
