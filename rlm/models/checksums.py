"""Whether a large file is what it should be, by its SHA-256, computed once: the result is noted among the user's cached files.

A note holds for as long as the file keeps its place, size, inode and time of change. Notes that cannot be read or written cost
time, never an error. It must not know what the files are for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

READ_BYTES = 1024 * 1024


def notes_folder() -> Path:
    """``rlm/checksums`` in ``XDG_CACHE_HOME``, by default ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlm" / "checksums"


def sha256_of(path: Path, notes: Path | None = None) -> str:
    """The file's SHA-256 in hexadecimal digits, from a note where there is one for this very file.

    Args:
        path: the file.
        notes: the folder of notes; by default ``notes_folder()``.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    identity = f"{path.absolute()}\n{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}\n"
    note = (notes or notes_folder()) / hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError):
        told, _, digest = note.read_text(encoding="utf-8", errors="surrogateescape").rpartition("\n")
        if told + "\n" == identity and len(digest) == 64:
            return digest
    digest = _compute(path)
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished = note.with_suffix(f".{os.getpid()}")  # a process that is killed here leaves no half a note
        unfinished.write_text(identity + digest, encoding="utf-8", errors="surrogateescape")
        unfinished.replace(note)
    return digest


def _compute(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            found.update(block)
    return found.hexdigest()
