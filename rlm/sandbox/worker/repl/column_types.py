"""Types of table columns: their SQL types, and readers from the text of a cell to a value."""

from __future__ import annotations

import re

SQL_TYPES = {"integer": "INTEGER", "real": "REAL", "money": "REAL", "percent": "REAL", "decimal comma": "REAL"}
_NOT_DIGITS = re.compile(r"[^\d.eE+-]")


def read_text(cell: str) -> str | None:
    return cell or None


def _read_integer(cell: str) -> int | str | None:
    try:
        return int(cell) if cell else None
    except ValueError:
        return cell


def _read_real(cell: str) -> float | str | None:
    try:
        return float(cell.replace(",", "")) if cell else None
    except ValueError:
        return cell


def _read_money(cell: str) -> float | str | None:
    digits = re.sub(r"[^\d.+-]", "", cell)
    try:
        return -abs(float(digits)) if "(" in cell else float(digits) if cell else None
    except ValueError:
        return cell


def _read_percent(cell: str) -> float | str | None:
    try:
        return float(cell.replace("%", "").replace(",", "")) / 100 if cell else None
    except ValueError:
        return cell


def _read_decimal_comma(cell: str) -> float | str | None:
    try:
        return float(cell.replace(".", "").replace(",", ".")) if cell else None
    except ValueError:
        return cell


READERS = {
    "integer": _read_integer, "real": _read_real, "money": _read_money, "percent": _read_percent,
    "decimal comma": _read_decimal_comma,
}  # fmt: skip
