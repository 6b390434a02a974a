"""Rows as text and as tables: shared by spreadsheets, CSV, Parquet and SQLite."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from .result import Builder

_PLACE_ROWS = 100  # a place for each hundred rows is fine enough to cite and small enough to keep


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


def write_rows(document: Builder, rows: Sequence[Sequence[Any]], label: str, first_row: int = 1) -> None:
    """Writes rows as CSV lines; every hundredth row starts a place such as "sheet Prices, row 101"."""
    for start in range(0, len(rows), _PLACE_ROWS):
        if start:
            document.place(f"{label}, row {start + first_row}")
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([show(value) for value in row] for row in rows[start : start + _PLACE_ROWS])
        document.write(buffer.getvalue())


def header_and_rows(rows: Sequence[Sequence[Any]]) -> tuple[list[str], list[Sequence[Any]]]:
    """Column names and the rows below them.

    The first row with the most text is the header if all of its cells are text and differ; otherwise columns are
    called "A", "B", and so on.
    """
    filled = [row for row in rows if any(value not in (None, "") for value in row)]
    if not filled:
        return [], []
    width = max(len(row) for row in filled)
    for start, row in enumerate(filled[:20]):
        names = [show(value).strip() for value in row]
        if len(row) == width or start == 0:
            texts = all(isinstance(value, str) for value in row)
            if len(row) == width and texts and all(names) and len(set(names)) == len(names):
                return names, filled[start + 1 :]
    return [column_letter(number) for number in range(width)], list(filled)


def column_letter(number: int) -> str:
    """Spreadsheet name of a column; 0 is "A"."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
