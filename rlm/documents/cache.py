"""Cache of conversions by content hash, among the user's cached files, bounded in size."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

VERSION = 4
"""Changes with the converters: results of an earlier version are not used."""
MAX_BYTES = 1_000_000_000
_SUFFIX = ".json.zz"
_LIMIT_FILE = "limit"  # holds the bytes that a user allows
_MAX_ENTRY_BYTES = 300_000_000


def default_folder() -> Path:
    """``RLM_CACHE_DIR``, or the folder that the platform gives for cached files."""
    named = os.environ.get("RLM_CACHE_DIR")
    if named:
        return Path(named) / "documents"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rlm" / "documents"


class ConversionCache:
    """Results of conversions. A cache that cannot be read or written behaves like an empty one."""

    def __init__(self, folder: Path | None = None, *, max_bytes: int | None = None) -> None:
        self.folder = folder or default_folder()
        self.max_bytes = self._limit() if max_bytes is None else max_bytes

    def _limit(self) -> int:
        try:
            return max(int((self.folder / _LIMIT_FILE).read_text("ascii")[:20]), 0)
        except (OSError, ValueError):
            return MAX_BYTES

    def set_limit(self, max_bytes: int) -> None:
        """Sets the limit for all processes from now on. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / _LIMIT_FILE).write_text(f"{max_bytes}\n", "ascii")
        self.max_bytes = max_bytes

    def key(self, digest: str, name: str, options: str = "") -> str:
        """Key of a file: its content, its name (which stands in the result) and options of the conversion."""
        text = f"{VERSION}\0{digest}\0{name}\0{options}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def get(self, key: str) -> Mapping[str, Any] | None:
        path = self._path(key)
        try:
            packed = path.read_bytes()
            inflater = zlib.decompressobj()
            data = inflater.decompress(packed, _MAX_ENTRY_BYTES)
            if inflater.unconsumed_tail:
                return None
            result = orjson.loads(data)
        except (OSError, zlib.error, ValueError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return result if isinstance(result, dict) else None

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        path = self._path(key)
        try:
            packed = zlib.compress(orjson.dumps(result), 1)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_bytes(packed)
            temporary.replace(path)
        except (OSError, TypeError, ValueError):  # a lone surrogate cannot be written, a full disk cannot either
            return

    def entries(self) -> int:
        return len(self._entries())

    def size_bytes(self) -> int:
        return sum(size for _, size, _ in self._entries())

    def prune(self, max_bytes: int | None = None) -> int:
        """Deletes the entries that were used longest ago until the rest fits; returns the bytes freed."""
        limit = self.max_bytes if max_bytes is None else max_bytes
        entries = sorted(self._entries())
        excess = sum(size for _, size, _ in entries) - limit
        freed = 0
        for _, size, path in entries:
            if freed >= excess:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                freed += size
        return freed

    def _entries(self) -> list[tuple[float, int, Path]]:
        entries = []
        with contextlib.suppress(OSError):
            for path in self.folder.glob(f"*/*{_SUFFIX}"):
                with contextlib.suppress(OSError):
                    state = path.stat()
                    entries.append((state.st_mtime, state.st_size, path))
        return entries

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / (key[2:] + _SUFFIX)
