"""The context of a recorded run that was too large to be stored: read again from its files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rlm.cli.reading import ReadingFlags, read_input, reread
from rlm.core.cells import PlainValue
from rlm.core.runs import MAX_CONTEXT_BYTES, ContextInfo, RunInfo
from rlm.documents.sources import STDIN_NAMES
from rlm.ports import Store

MAX_BYTES_PER_BYTE = 16
"""The size of recorded files, for each byte of their text: other encodings, documents and skipped binaries are larger."""


def find_context(store: Store, info: RunInfo, files: Sequence[str], encoding: str | None) -> PlainValue:
    """The context of a run that was not stored, read from ``files`` or from the recorded files. None if it was stored.

    Raises:
        IncompleteRecordError: it was not stored, and its files are unknown or have moved.
        ContextError: the files cannot be read.
    """
    if files:
        stdin = sys.stdin.buffer if STDIN_NAMES.intersection(files) and sys.stdin is not None else None
        return read_input(files, stdin, ReadingFlags(encoding=encoding)).context
    recorded = info.context
    if recorded.data is not None:
        return None
    sources = recorded.sources or (recorded.path or "").split("\n")  # an older record has the path alone
    context = reread(sources, recorded.folder, encoding) if _are_recorded_files(recorded, sources) else None
    return store.context(info) if context is None else context


def _are_recorded_files(recorded: ContextInfo, sources: Sequence[str]) -> bool:
    """True if these can be the files of a recorded context.

    A record can name any path. Only files whose digest it has are read, so nothing is disclosed. Devices, and folders that are
    much larger than the context, are not read.
    """
    if not recorded.digest or not all(source and source not in STDIN_NAMES for source in sources):
        return False
    left = MAX_BYTES_PER_BYTE * recorded.size + MAX_CONTEXT_BYTES
    for path in (Path(recorded.folder, source) for source in sources):
        if not path.is_file() and not path.is_dir():
            return False
        for file in [path] if path.is_file() else path.rglob("*"):
            left -= file.stat().st_size if file.is_file() else 0
            if left < 0:
                return False
    return True
