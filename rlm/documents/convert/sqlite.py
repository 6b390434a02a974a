"""SQLite databases: every table with its columns, and its rows as text and as a table."""

from __future__ import annotations

import sqlite3

from .result import Builder, ConversionError, Output
from .tables import write_table

_STEPS = 200_000_000


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a database to ``output``; every table is a place."""
    connection = sqlite3.connect(":memory:")
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1_000
        return steps > _STEPS

    try:
        connection.deserialize(data)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA query_only = ON")
        connection.set_progress_handler(count, 1_000)
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
            )
        ]
        document = Builder(path, "sqlite")
        for name in names:
            _add_table(connection, str(name), document, output)
    except (sqlite3.Error, ValueError, OverflowError) as error:
        raise ConversionError(f"not a readable SQLite database: {error}") from error
    finally:
        connection.close()
    output.add(document)


def _add_table(connection: sqlite3.Connection, name: str, document: Builder, output: Output) -> None:
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    quoted = name.replace('"', '""')
    cursor = connection.execute(f'SELECT * FROM "{quoted}" LIMIT {output.limits.rows + 1}')  # noqa: S608  quoted
    columns = [column[0] for column in cursor.description]
    rows = [[f"<{len(cell):,} bytes>" if isinstance(cell, bytes) else cell for cell in row] for row in cursor]
    if len(rows) > output.limits.rows:
        rows.pop()
        document.note(f"table {name}: only the first {output.limits.rows:,} rows are read")
    document.place(f"table {name}")
    document.line(f"## {name}")
    write_table(document, name, [columns, *rows], f"table {name}", range(len(rows) + 1))
    document.line()
