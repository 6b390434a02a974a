"""Formats read by optional packages: xls and xlsb by python-calamine, Parquet by pyarrow."""

from __future__ import annotations

import datetime
import io
from typing import Any

from .odf import write_sheet
from .result import Builder, ConversionError, Output
from .tables import write_table


def convert_workbook(data: bytes, path: str, output: Output, kind: str) -> None:
    """Adds the document of an xls or xlsb workbook to ``output``."""
    try:
        from python_calamine import CalamineWorkbook
    except ImportError:
        raise ConversionError(f'{kind} needs python-calamine; install it with: pip install "rlm-arbor[docs]"') from None
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = [(name, workbook.get_sheet_by_name(name).to_python()) for name in workbook.sheet_names]
        hidden = {str(item.name) for item in workbook.sheets_metadata if "Visible" not in str(item.visible).split(".")}
    except Exception as error:
        reason = str(error)
        if "password" in reason.lower() or "encrypt" in reason.lower():
            raise ConversionError("protected with a password") from error
        raise ConversionError(f"damaged workbook: {reason[:200]}") from error
    document = Builder(path, kind)
    for name, rows in sheets:
        marks = " (hidden sheet)" if name in hidden else ""
        write_sheet(document, name, [[_plain(cell) for cell in row] for row in rows[: output.limits.rows]], marks)
        if marks:
            document.note(f"sheet {name} is hidden; its rows are included")
        if len(rows) > output.limits.rows:
            document.note(f"sheet {name}: only the first {output.limits.rows:,} rows are read")
    output.add(document)


def convert_parquet(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a Parquet file to ``output``."""
    try:
        import pyarrow.parquet as parquet  # noqa: PLR0402
    except ImportError:
        raise ConversionError("Parquet needs pyarrow; install it with: pip install pyarrow") from None
    try:
        table = parquet.read_table(io.BytesIO(data), use_threads=False)
    except Exception as error:
        raise ConversionError(f"damaged Parquet file: {str(error)[:200]}") from error
    columns = [str(name) for name in table.column_names]
    cut = table.slice(0, output.limits.rows)
    rows = [[_plain(cell) for cell in row] for row in zip(*(column.to_pylist() for column in cut.columns), strict=True)]
    document = Builder(path, "parquet")
    if table.num_rows > output.limits.rows:
        document.note(f"only the first {output.limits.rows:,} rows are read")
    write_table(document, path.rpartition("/")[2], [columns, *rows], "table", 0)
    output.add(document)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return value.isoformat(sep=" ") if isinstance(value, datetime.datetime) else str(value)
