"""Reads a run's context from files, folders and standard input, decoded strictly.

One file becomes its text; several, or a folder, become a dict from path to text. Skipped files of a folder are counted in
``Inputs.notes``. This module knows neither models nor the engine.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from rlm.core.errors import ConfigurationError, ContextError
from rlm.core.values import slotted
from rlm.views.escape import one_line

Context: TypeAlias = str | dict[str, str]

STDIN_PATH = "/dev/stdin"
STDIN_NAMES = frozenset({"-", STDIN_PATH})
STDIN_KEY = "standard input"

SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
"""Generated folders, skipped like hidden ones."""

_MAGIC = (
    b"%PDF-",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"\x7fELF",
    b"7z\xbc\xaf",
    b"BZh",
    b"\x28\xb5/\xfd",
)
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\b\x1b")
_HEAD_BYTES = 8192
_MAX_CONTROL_SHARE = 0.05
"""The share of control characters in text is low; in compressed data it is about a tenth."""

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@slotted
class Inputs:
    """A context, with its paths (``sources``), and lines for the user that are safe on a terminal (``notes``)."""

    context: Context
    notes: list[str] = field(default_factory=list)
    sources: tuple[str, ...] = ()


@slotted
class _Folder:
    """The files of a folder, by their treatment."""

    path: Path
    texts: dict[str, str] = field(default_factory=dict)
    binary: list[str] = field(default_factory=list)
    hidden: int = 0

    def note(self) -> str:
        size = sum(len(text) for text in self.texts.values())
        summary = f"{one_line(str(self.path))}: {len(self.texts):,} text files, {size:,} characters"
        skipped = []
        if self.binary:
            examples = ", ".join(one_line(name, 60) for name in self.binary[:3])
            skipped.append(f"{len(self.binary):,} not text ({examples}{', ...' if len(self.binary) > 3 else ''})")
        if self.hidden:
            skipped.append(f"{self.hidden:,} hidden or generated")
        return f"{summary}; skipped: {', '.join(skipped)}" if skipped else summary


def read_inputs(sources: Sequence[str], stdin: BinaryIO | None, *, encoding: str = "utf-8", folder: str = "") -> Inputs:
    """Reads files, folders and standard input.

    Args:
        sources: paths of files and folders; ``-``, or no path at all, is standard input.
        stdin: the standard input; None if it is a terminal or closed.
        encoding: the encoding of every file.
        folder: the base of relative paths; the current folder if empty. It does not appear in the names of texts.

    Raises:
        ContextError: a source cannot be read or decoded, or all of them are empty.
        ConfigurationError: there is nothing to read, or the encoding is unknown.
    """
    encoding = _known_encoding(encoding)
    if not sources:
        if stdin is None:
            raise ConfigurationError(
                'nothing to read: name files or folders after the question, or pipe text in: rlm ask "..." FILE'
            )
        sources = [STDIN_PATH]
    texts: dict[str, str] = {}
    notes: list[str] = []
    has_folder = False
    sources = tuple(dict.fromkeys(STDIN_PATH if source in STDIN_NAMES else source for source in sources))
    for source in sources:
        path = Path(folder, source)
        if source == STDIN_PATH:
            texts[STDIN_KEY] = _read_stdin(stdin, encoding)
        elif path.is_dir():
            has_folder = True
            contents = _read_folder(path, Path(source), encoding)
            notes.append(contents.note())
            texts.update(contents.texts)
        else:
            texts[source] = _decode(_read_file(path), source, encoding)
    if not any(text.strip() for text in texts.values()):
        names = ", ".join(one_line(name) for name in texts) or ", ".join(notes)
        raise ContextError(f"no text in {names}: there is nothing to ask about")
    if len(texts) == 1 and not has_folder:
        return Inputs(next(iter(texts.values())), notes, sources)
    return Inputs(texts, notes, sources)


def _known_encoding(name: str) -> str:
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        raise ConfigurationError(f"unknown encoding {one_line(name)!r}; try utf-8, latin-1, cp1252 or utf-16") from None
    if not info._is_text_encoding:
        raise ConfigurationError(f"{one_line(name)!r} is not a text encoding; try utf-8, latin-1, cp1252 or utf-16")
    return info.name


def _read_stdin(stdin: BinaryIO | None, encoding: str) -> str:
    if stdin is None:
        raise ConfigurationError("'-' means standard input, but nothing is piped into it")
    try:
        return _decode(stdin.read(), STDIN_KEY, encoding)
    except OSError as error:
        raise ContextError(f"cannot read standard input: {error.strerror}") from error


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise ContextError(f"cannot read {one_line(str(path))}: {why}") from error


def _decode(data: bytes, name: str, encoding: str) -> str:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        where = f"byte 0x{data[error.start]:02x} at offset {error.start:,}"
        raise ContextError(f"{one_line(name)} is not {encoding}: {where}. {_advice(data)}") from error


def _advice(data: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return f"It looks like {encoding}: try --encoding {encoding}"
    if data.startswith(_MAGIC) or b"\0" in data[:_HEAD_BYTES]:
        return "It does not look like text; convert it to text first"
    return "Name its encoding, for instance --encoding cp1252"


def _read_folder(path: Path, shown: Path, encoding: str) -> _Folder:
    """The files of a folder. ``shown`` replaces its path in their names."""
    folder = _Folder(shown)
    for file in _walk(folder, path):
        data, name = _read_file(file), str(shown / file.relative_to(path))
        if _looks_binary(data, encoding):
            folder.binary.append(name)
        else:
            folder.texts[name] = _decode(data, name, encoding)
    return folder


def _walk(folder: _Folder, path: Path) -> Iterator[Path]:
    """Regular files below, in the order of their paths. Links to folders are not followed: they can form a cycle."""

    def fail(error: OSError) -> None:
        raise ContextError(f"cannot read {one_line(str(error.filename))}: {error.strerror}") from error

    for place, folders, files in os.walk(path, onerror=fail):
        kept = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED_FOLDERS)
        folder.hidden += len(folders) - len(kept)
        folders[:] = kept
        for name in sorted(files):
            file = Path(place, name)
            if name.startswith("."):
                folder.hidden += 1
            elif _is_regular(file):
                yield file


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a broken link
        return False


def _looks_binary(data: bytes, encoding: str) -> bool:
    head = data[:_HEAD_BYTES]
    if head.startswith(_MAGIC):
        return True
    if encoding.startswith(("utf-16", "utf-32")):
        return False
    controls = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in head)
    return b"\0" in head or controls > _MAX_CONTROL_SHARE * len(head)
