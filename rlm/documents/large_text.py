"""A large text file as a context of its own: opened, and never decoded as a whole by the host."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

OPEN_FILE_BYTES = 50_000_000
"""Size above which a single text file is handed over open."""
LARGEST_DOCUMENT_BYTES = 4_000_000_000
_HEAD_BYTES = 8_192


class LargeText(io.FileIO):
    """The file, closed with its last reference: the REPLs of a run, and then its journal, use it until they end."""

    def __del__(self) -> None:
        self.close()


def open_large_text(sources: Sequence[str | os.PathLike[str]], encoding: str = "") -> LargeText | None:
    """The only source as an open file, if it is a large text in UTF-8, which REPLs map without a copy."""
    if len(sources) != 1 or encoding not in ("", "utf-8") or sys.platform != "linux":
        return None
    path = Path(sources[0])
    with suppress(OSError, ValueError):
        if not path.is_file() or (size := path.stat().st_size) < OPEN_FILE_BYTES:
            return None
        opened = LargeText(path)
        if _is_text(opened.read(_HEAD_BYTES), str(path), size):
            return opened
        opened.close()
    return None


def _is_text(head: bytes, name: str, size: int) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    if size > LARGEST_DOCUMENT_BYTES:  # which no converter reads
        return True
    # Converters of all formats take as long to load as the rest of the package, and a text needs none.
    dispatch: Any = import_module("rlm.documents.convert.dispatch")
    try:
        kind = dispatch.find_kind(head, name, size)
    except dispatch.ConversionError:
        return False
    return kind in dispatch.TEXT_KINDS and b"\0" not in head
