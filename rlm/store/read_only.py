"""A read-only view of a store whose file, folder or disk cannot be written. Tails of ended processes are added in memory.

Views in the connection's temporary schema take the names of the tables, so that all queries apply. Nothing is created on disk.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rlm.core.errors import StoreError
from rlm.store.migrations import BUSY_TIMEOUT_S, check_version, translated

_WAYS = (
    ("mode=ro", ""),
    # Needs no shared-memory file, and so no folder that can be written. No other process writes then, or the first way works.
    ("mode=ro&vfs=unix-none", "PRAGMA locking_mode=EXCLUSIVE"),
    ("immutable=1", ""),
)
_COLUMNS = "number, id, started, touched, status, question, options, context, context_data, texts_kept, owner"
_OVERLAY = f"""
    CREATE TEMP TABLE tail_runs AS SELECT {_COLUMNS} FROM main.runs WHERE 0;
    CREATE TEMP TABLE tail_events AS SELECT run, seq, data FROM main.events WHERE 0;
    CREATE TEMP TABLE tail_texts AS SELECT run, hash, data FROM main.texts WHERE 0;
    CREATE TEMP VIEW runs AS SELECT * FROM tail_runs UNION ALL
        SELECT {_COLUMNS} FROM main.runs WHERE number NOT IN (SELECT number FROM tail_runs);
    CREATE TEMP VIEW events AS SELECT run, seq, data FROM main.events UNION ALL SELECT * FROM tail_events;
    CREATE TEMP VIEW texts AS SELECT run, hash, data FROM main.texts UNION ALL SELECT * FROM tail_texts;
    CREATE TEMP TRIGGER begin_run INSTEAD OF INSERT ON runs WHEN NOT EXISTS (SELECT 1 FROM runs WHERE id=NEW.id) BEGIN
        INSERT INTO tail_runs SELECT (SELECT coalesce(max(number), 0) + 1 FROM runs), NEW.id, NEW.started, NEW.touched,
            NEW.status, NEW.question, NEW.options, NEW.context, NEW.context_data, NEW.texts_kept, NEW.owner;
    END;
    CREATE TEMP TRIGGER change_run INSTEAD OF UPDATE ON runs BEGIN
        INSERT INTO tail_runs SELECT * FROM runs WHERE number=NEW.number AND number NOT IN (SELECT number FROM tail_runs);
        UPDATE tail_runs SET status=NEW.status, touched=NEW.touched, owner=NEW.owner WHERE number=NEW.number;
    END;
    CREATE TEMP TRIGGER add_events INSTEAD OF INSERT ON events BEGIN
        INSERT INTO tail_events VALUES (NEW.run, NEW.seq, NEW.data);
    END;
    CREATE TEMP TRIGGER add_texts INSTEAD OF INSERT ON texts BEGIN
        INSERT INTO tail_texts VALUES (NEW.run, NEW.hash, NEW.data);
    END;
"""  # noqa: S608  constants


def open_to_read(place: str | Path) -> sqlite3.Connection:
    """A connection that changes nothing on disk; what is inserted stays in memory.

    Raises:
        StoreError: the file cannot be read, or is not a store of this version or an earlier one.
    """
    with translated(place):
        failure: sqlite3.Error | None = None
        for way, pragma in _WAYS:
            address = f"{Path(place).absolute().as_uri()}?{way}"
            try:
                return _open(address, pragma, place)
            except sqlite3.OperationalError as error:
                failure = failure or error
        assert failure is not None
        raise failure


def _open(address: str, pragma: str, place: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        address, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_S
    )
    try:
        if pragma:
            connection.execute(pragma)
        connection.execute("PRAGMA temp_store=MEMORY")
        if check_version(connection, place) == 0:
            raise StoreError(f"the store {place} is empty")
        connection.executescript(_OVERLAY)
    except BaseException:
        connection.close()
        raise
    return connection
