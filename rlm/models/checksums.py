"""SHA-256 of large files, computed once and cached in the user's cache folder.

A cache entry is valid while the file has the same path, size, inode and change time. Entries that cannot be read or written cost
time, and are never an error. This module knows no purpose of the files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

READ_BYTES = 1024 * 1024


def cache_folder() -> Path:
    """``rlm/checksums`` in ``XDG_CACHE_HOME``, by default ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlm" / "checksums"


def sha256_of(path: Path, cache: Path | None = None) -> str:
    """The file's SHA-256 in hexadecimal digits, from the cache if it has a valid entry.

    Args:
        path: the file.
        cache: the cache folder; by default ``cache_folder()``.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    identity = f"{path.absolute()}\n{status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}\n"
    entry = (cache or cache_folder()) / hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError):
        cached, _, digest = entry.read_text(encoding="utf-8", errors="surrogateescape").rpartition("\n")
        if cached + "\n" == identity and len(digest) == 64:
            return digest
    digest = _compute(path)
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        unfinished = entry.with_suffix(f".{os.getpid()}")  # renamed when whole: a kill leaves no partial entry
        unfinished.write_text(identity + digest, encoding="utf-8", errors="surrogateescape")
        unfinished.replace(entry)
    return digest


def _compute(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
