"""Files of other file systems (``s3://``, ``gs://``, ``memory://``, ...) by the package ``fsspec``.

Addresses, credentials and network of these file systems are the user's own: they act like a path that the user names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from rlm.core.errors import ContextError
from rlm.core.redaction import SECRETS
from rlm.core.values import frozen

INSTALL = 'install it with: pip install "rlm-arbor[remote]"'
MAX_BYTES = 200_000_000
MAX_FILES = 100_000
_CHUNK = 1 << 20
_FIRST_GLOB = re.compile(r"[*?\[]")


@frozen
class RemoteFile:
    """A file of a file system of ``fsspec``: the file system, the path in it, and the size if it is known."""

    system: Any
    path: str
    size: int | None = None

    def read(self, max_bytes: int = MAX_BYTES) -> bytes:
        """All bytes of the file.

        Raises:
            ContextError: it cannot be read, or is too large.
        """
        name = show_address(self.system.unstrip_protocol(self.path))
        too_large = ContextError(f"cannot read {name}: larger than {max_bytes:,} bytes")
        if (self.size or 0) > max_bytes:
            raise too_large
        parts, total = [], 0
        try:
            with self.system.open(self.path, "rb") as opened:
                while piece := opened.read(_CHUNK):
                    total += len(piece)
                    if total > max_bytes:
                        break
                    parts.append(piece)
        except Exception as error:
            raise _unreadable(name, error) from error
        if total > max_bytes:
            raise too_large
        return b"".join(parts)


def find_remote(address: str) -> Iterator[tuple[str, str, RemoteFile]]:
    """Files that an address names: itself, all files below it, or those that match its pattern.

    Yields:
        The name to show, the path relative to the address (empty if the address is that file), and the file.

    Raises:
        ContextError: a package is missing, or nothing is there or can be read.
    """
    shown = show_address(address)
    try:
        import fsspec.core  # noqa: PLC0415  an optional package, and slow to load
    except ImportError:
        raise ContextError(f"cannot read {shown}: it needs fsspec; {INSTALL}") from None
    try:
        system, root = fsspec.core.url_to_fs(address)
        listing = list(_list(system, root))
    except ImportError as error:  # fsspec names the package of the protocol
        raise ContextError(f"cannot read {shown}: {error}") from None
    except Exception as error:
        raise _unreadable(shown, error) from error
    if not listing:
        raise ContextError(f"no file matches {shown}")
    for path, relative, size in listing:
        yield show_address(system.unstrip_protocol(path)), relative, RemoteFile(system, path, size)


def _list(system: Any, root: str) -> Iterator[tuple[str, str, int | None]]:
    if _FIRST_GLOB.search(root) and not system.exists(root):
        details = system.glob(root, detail=True)
        base = _FIRST_GLOB.split(root, maxsplit=1)[0].rpartition("/")[0]
    else:
        info = system.info(root)
        if info["type"] == "file":
            yield root, "", info.get("size")
            return
        details, base = system.find(root, detail=True), root
    if len(details) > MAX_FILES:
        raise ValueError(f"more than {MAX_FILES:,} files; name a part of them")
    for path, info in sorted(details.items()):
        if info["type"] == "file":
            yield path, path.removeprefix(base).lstrip("/"), info.get("size")


def show_address(address: str) -> str:
    """An address without user name, password and query, which can hold secrets."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"[:1_000]


def _unreadable(shown: str, error: Exception) -> ContextError:
    why = "no such file or folder" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
    return ContextError(f"cannot read {shown}: {SECRETS.redact_text(' '.join(why.split()))[:500]}")
