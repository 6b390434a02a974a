"""Reads the sources that a command line names, with progress on stderr, and describes what was read."""

from __future__ import annotations

import codecs
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

from cyclopts import Parameter

import rlm
from rlm.cli.exits import complain
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, ContextError
from rlm.documents.convert.dispatch import TEXT_KINDS
from rlm.documents.large_text import open_large_text
from rlm.documents.sources import STDIN, STDIN_NAMES
from rlm.documents.values import Documents
from rlm.views.escape import one_line

MAX_SUMMARY_CHARS = 400
_PROGRESS_AFTER_S = 1.0
_PROGRESS_EVERY_S = 5.0  # where lines cannot be rewritten
_REFRESH_S = 0.1


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class ReadingFlags:
    """The flags that choose and read files.

    Attributes:
        include: Read only files of folders that match this pattern (gitignore syntax); can be repeated.
        exclude: Leave out files of folders that match this pattern; can be repeated.
        no_ignore: Also read hidden files, and files that .gitignore or .ignore name.
        encoding: The encoding of text files; detected if not given.
    """

    include: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    exclude: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    no_ignore: Annotated[bool, Parameter(negative="", show_default=False)] = False
    encoding: Annotated[str | None, Parameter(show_default=False)] = None


@dataclass(frozen=True, slots=True)
class Input:
    """The context of a run: documents, or one large text file that is open."""

    context: PlainValue
    documents: Documents | None
    sources: tuple[str, ...]


def read_input(
    files: Sequence[str], stdin: BinaryIO | None, flags: ReadingFlags | None = None, *, quiet: bool = True
) -> Input:
    """Reads files, folders, patterns, addresses and standard input.

    Args:
        files: the sources as named; standard input if empty.
        stdin: standard input; None if it is a terminal or closed.
        flags: the choice of files.
        quiet: show no progress.

    Raises:
        ContextError: a source does not exist, or none has text.
        ConfigurationError: there is nothing to read, or the encoding is unknown.
    """
    flags = flags or ReadingFlags()
    encoding = check_encoding(flags.encoding)
    sources = tuple(dict.fromkeys(STDIN if name in STDIN_NAMES else name for name in files))
    if not sources:
        if stdin is None:
            raise ConfigurationError(
                'nothing to read: name files or folders after the question, or pipe text in: rlm ask "..." FILE'
            )
        sources = (STDIN,)
    opened = open_large_text(sources, encoding)
    if opened is not None:
        return Input(opened, None, sources)
    progress = None if quiet or sys.stderr is None else _Progress()
    try:
        documents = rlm.load(
            *sources,
            include=flags.include,
            exclude=flags.exclude,
            no_ignore=flags.no_ignore,
            encoding=encoding,
            stdin=stdin,
            on_progress=None if progress is None else progress.show,
        )
    finally:
        if progress is not None:
            progress.end()
    return Input(documents, documents, documents.sources)


def check_encoding(name: str | None) -> str:
    """The codec's own name; "" for detection. Raises ConfigurationError."""
    if name is None:
        return ""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        raise ConfigurationError(f"unknown encoding {one_line(name)!r}; try utf-8, latin-1, cp1252 or utf-16") from None
    if not info._is_text_encoding:
        raise ConfigurationError(f"{one_line(name)!r} is not a text encoding; try utf-8, latin-1, cp1252 or utf-16")
    return info.name


def is_path(name: str) -> bool:
    """True if a file or folder of this name exists. Never raises: a question can have any length."""
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False


class _Progress:
    """The line "reading 412 of 1,204 files, 3 skipped": rewritten on a terminal, repeated seldom elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._next = time.monotonic() + _PROGRESS_AFTER_S
        self._shown = False

    def show(self, done: int, count: int, skipped: int) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_REFRESH_S if self._is_terminal else _PROGRESS_EVERY_S)
        line = f"reading {done:,} of {count:,} files" + (f", {skipped:,} skipped" if skipped else "")
        if not self._is_terminal:
            complain(line)
            return
        self._shown = True
        with suppress(OSError, ValueError):
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()

    def end(self) -> None:
        if self._shown:
            with suppress(OSError, ValueError):
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()


def describe_reading(documents: Documents) -> str:
    """One line about what was read and what was left out; empty for a single plain text."""
    first = documents[0] if len(documents) == 1 else None
    if first is not None and first.kind in TEXT_KINDS and not documents.left_out and not documents.ignored:
        return ""
    notes = [f"{item.path}: {note}" for item in documents for note in item.notes]
    more = f"; {len(notes) - 3:,} more notes" if len(notes) > 3 else ""
    line = "; ".join([documents.summary(), *notes[:3]]) + more
    return f"read {one_line(line, MAX_SUMMARY_CHARS)}"


def list_documents(documents: Documents) -> str:
    """The table of ``--list-files``, and the files that were left out."""
    rows = [("FORMAT", "PAGES", "CHARACTERS", "PATH")]
    rows += [
        (
            item.kind,
            "" if item.pages is None else f"{item.pages:,}",
            f"{len(item.text):,}",
            _with_notes(item.path, item.notes),
        )
        for item in documents
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{kind:<{widths[0]}}  {pages:>{widths[1]}}  {chars:>{widths[2]}}  {path}" for kind, pages, chars, path in rows
    ]
    lines += [f"left out: {one_line(item.path, 300)}: {one_line(item.reason, 300)}" for item in documents.left_out]
    if documents.ignored:
        lines.append(f"{documents.ignored:,} hidden or ignored")
    return "\n".join(lines)


def _with_notes(path: str, notes: Sequence[str]) -> str:
    return one_line(path, 300) + (f"  ({one_line('; '.join(notes), 200)})" if notes else "")


def reread(sources: Sequence[str], folder: str, encoding: str | None = None) -> PlainValue | None:
    """The context of a recorded run from its sources; None if one of them is gone or was standard input."""
    if not sources or any(not source or source in STDIN_NAMES for source in sources):
        return None
    opened = open_large_text([str(Path(folder, source)) for source in sources], check_encoding(encoding))
    if opened is not None:
        return opened
    try:
        return rlm.load(*sources, folder=folder, encoding=check_encoding(encoding)).context
    except ContextError:
        return None
