"""Archives (zip, tar, gz, bz2, xz): every member becomes a document of its own, within limits."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable
from typing import IO, Any

from .packages import CHUNK, MAX_RATIO, MIN_BOMB_BYTES, Package
from .result import ConversionError, LimitError, Output

Add = Callable[[bytes, str, Output], None]
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, tarfile.TarError, ValueError)


_COMPRESSED: dict[bytes, tuple[str, Callable[[IO[bytes]], Any]]] = {
    b"\x1f\x8b": (".gz", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": (".bz2", bz2.BZ2File),
    b"\xfd7zXZ": (".xz", lzma.LZMAFile),
}


def convert_zip(data: bytes, path: str, output: Output, add: Add) -> None:
    """Passes every member of a ZIP archive to ``add``."""
    package = Package(data, output)
    for info in package.infos():
        if info.is_dir():
            continue
        name = f"{path}!/{_safe(info.filename)}"
        mode = info.external_attr >> 16
        if mode & 0o170000 == 0o120000:
            output.skip(name, "symbolic link")
            continue
        try:
            content = package.read(info.filename)
        except LimitError:
            raise
        except ConversionError as error:
            output.skip(name, str(error))
            continue
        add(content, name, output)


def convert_tar(data: bytes, path: str, output: Output, add: Add) -> None:
    """Passes every regular file of a tar archive to ``add``; links and devices are left out."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                name = f"{path}!/{_safe(member.name)}"
                output.charge(0, 1)
                if member.isdir():
                    continue
                if not member.isfile():
                    output.skip(name, "a link or a device")
                    continue
                file = archive.extractfile(member)
                if file is not None:
                    add(_read(file, len(data), name, output), name, output)
    except _DAMAGE as error:
        raise ConversionError(f"damaged tar archive: {error}") from error


def convert_compressed(data: bytes, path: str, output: Output, add: Add) -> None:
    """Passes the content of a compressed file to ``add``; a tar archive inside is read as an archive."""
    inner = posixpath.basename(path.removesuffix("!/"))
    ending, opener = next((form for magic, form in _COMPRESSED.items() if data.startswith(magic)))
    with opener(io.BytesIO(data)) as opened:
        content = _read(opened, len(data), path, output)
    if _is_tar(content):
        convert_tar(content, path, output, add)
        return
    lowered = inner.lower()
    name = inner[: -len(ending)] if lowered.endswith(ending) else inner
    add(content, f"{path}!/{name or 'content'}", output)


def _is_tar(data: bytes) -> bool:
    return data[257:262] == b"ustar"


def _read(file: IO[bytes], compressed: int, name: str, output: Output) -> bytes:
    pieces, total = [], 0
    try:
        while piece := file.read(CHUNK):
            total += len(piece)
            output.charge(len(piece))
            if total > MIN_BOMB_BYTES and total > MAX_RATIO * max(compressed, 1):
                raise LimitError(f"{name} is a decompression bomb")
            pieces.append(piece)
    except _DAMAGE as error:
        raise ConversionError(f"damaged compressed data: {error}") from error
    return b"".join(pieces)


def _safe(name: str) -> str:
    """A member's name without parts that lead outside; it is only shown, never opened."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:1_000] or "unnamed"
