"""Formats read by optional packages: xls and xlsb by python-calamine, Parquet by pyarrow."""

from __future__ import annotations

import datetime
import io
from typing import Any

from .result import Builder, ConversionError, MissingPackageError, Output
from .tables import write_sheet, write_table

_BATCH_ROWS = 10_000


def convert_workbook(data: bytes, path: str, output: Output, kind: str) -> None:
    """Adds the document of an xls or xlsb workbook to ``output``."""
    try:
        from python_calamine import CalamineWorkbook
    except ImportError:
        raise MissingPackageError(kind, "python_calamine", '"rlm-arbor[docs]"') from None
    try:
        workbook = CalamineWorkbook.from_filelike(io.BytesIO(data))
        sheets = [(name, workbook.get_sheet_by_name(name)) for name in workbook.sheet_names]
        filled = [(name, sheet.to_python(), (sheet.start or (0, 0))[0] + 1) for name, sheet in sheets]
        hidden = {str(item.name) for item in workbook.sheets_metadata if "Visible" not in str(item.visible).split(".")}
    except Exception as error:
        reason = str(error)
        if "password" in reason.lower() or "encrypt" in reason.lower():
            raise ConversionError("protected with a password") from error
        raise ConversionError(f"damaged workbook: {reason[:200]}") from error
    document = Builder(path, kind)
    for name, rows, first in filled:
        marks = " (hidden sheet)" if name in hidden else ""
        shown = [[_plain(cell) for cell in row] for row in rows[: output.limits.rows]]
        write_sheet(document, name, shown, range(first, first + len(shown)), marks)
        if marks:
            document.note(f"sheet {name} is hidden; its rows are included")
        if len(rows) > output.limits.rows:
            document.note(f"sheet {name}: only the first {output.limits.rows:,} rows are read")
    output.add(document)


def convert_parquet(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a Parquet file to ``output``. Rows are read in batches: a small file can hold many."""
    try:
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:  # any other failure of the import is reported with its own text
        raise MissingPackageError("Parquet", "pyarrow", '"rlm-arbor[parquet]"') from None
    rows: list[list[Any]] = []
    chars = 0
    try:
        file = ParquetFile(io.BytesIO(data), pre_buffer=False)
        columns = [str(name) for name in file.schema_arrow.names]
        count = int(file.metadata.num_rows)
        for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
            cells = [[_plain(cell) for cell in column.to_pylist()] for column in batch.columns]
            rows += map(list, zip(*cells, strict=True))
            chars += sum(len(cell) for column in cells for cell in column if isinstance(cell, str))
            if len(rows) >= output.limits.rows or chars > output.limits.text_chars:
                break
    except Exception as error:
        raise ConversionError(f"damaged Parquet file: {str(error)[:200]}") from error
    document = Builder(path, "parquet")
    if count > len(rows) or len(rows) > output.limits.rows:
        document.note(f"only the first {min(len(rows), output.limits.rows):,} of {count:,} rows are read")
    write_table(
        document, path.rpartition("/")[2], [columns, *rows[: output.limits.rows]], "table", range(len(rows) + 1)
    )
    output.add(document)


def _plain(value: Any) -> Any:
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return value.isoformat(sep=" ") if isinstance(value, datetime.datetime) else str(value)
