"""Rows as delimited lines, and the table that they form: shared by spreadsheets, CSV, Parquet and SQLite."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from .result import Builder, Table

TYPES = ("integer", "real", "text", "money", "percent", "decimal comma")
"""Types of columns. Cells of "money", "percent" and "decimal comma" are numbers once their signs are removed."""

_PLACE_ROWS = 100  # a place for each hundred rows is fine enough to cite and small enough to keep
SAMPLE_ROWS = 5_000
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})")
_REAL = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+)(?:,\d+)?")
_PERCENT = re.compile(r"[+-]?\d+(?:\.\d+)?\s?%")
_MONEY = re.compile(
    r"[+-]?\(?(?:[$€£¥₹₽₩]|[A-Z]{3}|Fr\.?)?\s?[+-]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?\s?(?:[$€£¥₹₽₩]|[A-Z]{3})?\)?"
)
_LEADING_ZERO = re.compile(r"[+-]?0\d+")


def show(value: Any) -> str:
    """A cell as a person sees it."""
    if value is None:
        return ""
    if value is True:
        return "TRUE"
    if value is False:
        return "FALSE"
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def write_table(
    document: Builder, name: str, rows: Sequence[Sequence[Any]], label: str, numbers: Sequence[int]
) -> None:
    """Writes rows as CSV lines, and records them as a table.

    Args:
        rows: the header, if there is one, is the first of the full rows.
        label: of the places, for instance "sheet Prices". A place "sheet Prices, row 101" starts at every hundredth row, and
            wherever numbers were left out. Readers count the rows in between.
        numbers: the number of each row; 0 for a header that is not counted.
    """
    start = document.length
    shown = [[show(value) for value in row] for row in rows]
    at = 0
    while at < len(shown):
        end = at + 1
        while end < len(shown) and end < at + _PLACE_ROWS and numbers[end] == numbers[end - 1] + 1 and numbers[at]:
            end += 1
        document.place(f"{label}, row {numbers[at]}" if numbers[at] else f"{label}, header")
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(shown[at:end])
        document.write(buffer.getvalue())
        at = end
    add_table(document, name, shown, start)


def write_sheet(
    document: Builder, name: str, rows: Sequence[Sequence[Any]], numbers: Sequence[int], marks: str = ""
) -> None:
    """Writes one sheet as a table, with its rows as places."""
    document.place(f"sheet {name}")
    document.line(f"## {name}{marks}")
    if rows:
        write_table(document, name, rows, f"sheet {name}", numbers)
        document.place(f"sheet {name}")
    document.line()


def add_table(
    document: Builder,
    name: str,
    rows: Sequence[Sequence[str]],
    start: int,
    delimiter: str = ",",
    *,
    further_rows: int = 0,
) -> None:
    """Records rows that were written from offset ``start`` on as a table, if they are one.

    ``further_rows`` counts rows that follow those of ``rows``.
    """
    columns, skip = find_header(rows)
    if not columns:
        return
    body = [row for row in rows[skip:] if any(row)]
    types = [column_type([row[at] for row in body[:SAMPLE_ROWS] if at < len(row)]) for at in range(len(columns))]
    document.tables.append(
        Table(name, columns, types, len(body) + further_rows, start, document.length, skip, delimiter)
    )


def find_header(rows: Sequence[Sequence[str]]) -> tuple[list[str], int]:
    """Column names, and the number of records before the first row below them.

    The header is the first row of the common width, if its cells are filled, differ, and are not numbers. Other columns are
    called "A", "B", and so on.
    """
    sizes = Counter(len(row) for row in rows[:SAMPLE_ROWS] if row)
    widest = max(sizes, default=0)
    width = max((size for size, count in sizes.items() if count > 0.2 * sizes.total()), default=0)
    if not width or not any(any(row) for row in rows):
        return [], 0
    for number, row in enumerate(rows[:20]):
        names = [" ".join(cell.split()) for cell in row]
        differ = len({name.lower() for name in names}) == len(row)
        if len(row) >= width and all(names) and differ and not any(map(_REAL.fullmatch, names)):
            return [*names, *map(column_letter, range(len(names), widest))], number + 1
        if sum(map(bool, row)) >= width:
            break
    return [column_letter(number) for number in range(widest)], 0


def column_type(cells: Sequence[str]) -> str:
    """Type of a column: the narrowest of ``TYPES`` that fits all of its filled cells."""
    filled = [cell.strip() for cell in cells if cell.strip()]
    if not filled or any(_LEADING_ZERO.fullmatch(cell) for cell in filled):
        return "text"
    for name, pattern in (
        ("integer", _INTEGER),
        ("real", _REAL),
        ("percent", _PERCENT),
        ("decimal comma", _COMMA),
        ("money", _MONEY),
    ):
        if all(map(pattern.fullmatch, filled)):
            return name
    return "text"


def column_letter(number: int) -> str:
    """Spreadsheet name of a column; 0 is "A"."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
