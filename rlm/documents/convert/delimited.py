"""Comma- and tab-separated files: delimiter, quoting, decimal comma and encoding are detected and noted."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator

from .encodings import decode
from .result import Builder, Output
from .tables import SAMPLE_ROWS, add_table

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_PLACE_ROWS = 100
_NAMED_DELIMITER = re.compile(r"sep=([^\w\s\"']|\t)\r?\n", re.IGNORECASE)
"""First line by which Excel is told the delimiter."""


def convert(data: bytes, path: str, output: Output, *, tab: bool = False, encoding: str = "") -> None:
    """Adds the document of a CSV or TSV file to ``output``: its text unchanged, and its rows as a table."""
    document = Builder(path, "tsv" if tab else "csv")
    text = decode(data, document, declared=encoding)
    named = _NAMED_DELIMITER.match(text)
    delimiter = named[1] if named else "\t" if tab and "\t" in text[:10_000] else find_delimiter(text)
    if delimiter != ("\t" if tab else ","):
        document.note(f"delimiter: {_DELIMITERS.get(delimiter, delimiter)}")
    csv.field_size_limit(10_000_000)
    sample: list[list[str]] = []
    further = 0
    reader = csv.reader(_lines(text), delimiter=delimiter)
    widths: set[int] = set()
    try:
        sample.extend(itertools.islice(reader, SAMPLE_ROWS))
        further = sum(1 for row in reader if row)
        widths.update(len(row) for row in sample[bool(named) :] if row)
    except csv.Error as error:
        document.note(f"the table is incomplete near line {reader.line_num:,}: {error}")
    _write(document, text)
    add_table(document, path.rpartition("/")[2], sample, 0, delimiter, further_rows=further)
    if len(widths) > 1:
        document.note(f"rows have between {min(widths)} and {max(widths)} cells")
    for table in document.tables:
        if "decimal comma" in table.types:
            document.note("decimal comma in numbers")
    output.add(document)


def _write(document: Builder, text: str) -> None:
    lines = _lines(text)
    count = 0
    while piece := "".join(itertools.islice(lines, _PLACE_ROWS)):
        document.place(f"line {count + 1}")
        document.write(piece)
        count += _PLACE_ROWS


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends, without a copy of the text: only the ends that editors count."""
    if "\r" in text:
        yield from io.StringIO(text, newline="")
        return
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


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
