"""Result of a conversion as plain data, and the builder that format modules write to.

A result crosses the sandbox border, so it holds only dicts, lists, strings and numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any, TypeAlias

from rlm.core.values import frozen, slotted

Plain: TypeAlias = dict[str, Any]


class ConversionError(Exception):
    """The file cannot be converted; the message is shown to the user as the reason."""


class LimitError(ConversionError):
    """The file exceeds a limit on size, members or nesting."""


class MissingPackageError(ConversionError):
    """The parser of the format is not installed, or not in this process.

    Attributes:
        package: the name by which it is imported.
    """

    def __init__(self, kind: str, package: str, requirement: str) -> None:
        super().__init__(f"{kind} needs {package.replace('_', '-')}; install it with: pip install {requirement}")
        self.package = package


class NeedsOwnWorkerError(Exception):
    """The file, or one inside it, needs a parser that must not share a process with other files."""


@frozen
class Limits:
    """Upper bounds for one source file, including everything packed inside it.

    Attributes:
        text_chars: characters of text of all documents together.
        unpacked_bytes: decompressed bytes of all members together.
        members: files of an archive, or parts of a package such as docx.
        depth: archives inside archives.
        pages: pages of a PDF that are read.
        rows: rows of one table that are read.
    """

    text_chars: int = 200_000_000
    unpacked_bytes: int = 1_000_000_000
    members: int = 20_000
    depth: int = 3
    pages: int = 20_000
    rows: int = 2_000_000


@slotted
class Table:
    """A table whose rows stand in the text of its document as delimited lines.

    Attributes:
        columns, types: names, and one of ``tables.TYPES`` for each.
        rows: number of rows below the header.
        start, end: offsets of its lines.
        skip: records before the first row.
    """

    name: str
    columns: Sequence[str]
    types: Sequence[str]
    rows: int
    start: int
    end: int
    skip: int
    delimiter: str = ","

    def plain(self) -> Plain:
        return {
            "name": self.name,
            "columns": list(self.columns),
            "types": list(self.types),
            "rows": self.rows,
            "start": self.start,
            "end": self.end,
            "skip": self.skip,
            "delimiter": self.delimiter,
        }


@slotted
class Builder:
    """Text of one document, with the places that its offsets belong to.

    Attributes:
        path: name of the document; members of an archive carry the archive's name before ``!/``.
        kind: format, for instance "pdf".
        decoding: of a text that is the file's own: encoding, treatment of errors, bytes. A result can do without such a text.
    """

    path: str
    kind: str
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pages: int | None = None
    decoding: tuple[str, str, int] | None = None
    _parts: list[str] = field(default_factory=list)
    _places: list[tuple[int, str]] = field(default_factory=list)
    _length: int = 0

    @property
    def length(self) -> int:
        return self._length

    @property
    def is_blank(self) -> bool:
        return not any(part.strip() for part in self._parts)

    def place(self, label: str) -> None:
        """Starts a place, for instance "p. 3"; following text belongs to it."""
        self._places.append((self._length, label))

    def write(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def line(self, text: str = "") -> None:
        self.write(text + "\n")

    def note(self, text: str) -> None:
        """Records a fact for the user, once: a skipped page, hidden rows, a guessed encoding."""
        if text not in self.notes:
            self.notes.append(text)

    def plain(self, *, with_text: bool = True) -> Plain:
        return {
            "path": self.path,
            "kind": self.kind,
            "text": "".join(self._parts) if with_text else "",
            "decoding": None if with_text or self.decoding is None else [*self.decoding, self.length],
            "places": [list(place) for place in self._places],
            "notes": self.notes,
            "tables": [table.plain() for table in self.tables],
            "pages": self.pages,
        }


@slotted
class Output:
    """All documents that one source file yields, and what was left out of it.

    Attributes:
        shared: the process converts other files as well; see ``dispatch.convert_group``.
        missing: packages without which something was left out.
        own_text: the document whose text is the file's own, and is not needed in the result; see ``Builder.decoding``.
    """

    limits: Limits
    shared: bool = False
    documents: list[Builder] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    own_text: Builder | None = None
    _chars: int = 0
    _unpacked: int = 0
    _members: int = 0

    def add(self, document: Builder) -> None:
        """Adds a document. One without text is left out by name instead of passed on as empty."""
        if document.is_blank:
            self.skip(document.path, "no text (it can hold images)")
            return
        self.documents.append(document)
        self._chars += document.length
        if self._chars > self.limits.text_chars:
            raise LimitError(f"more than {self.limits.text_chars:,} characters of text")

    def skip(self, path: str, reason: str) -> None:
        self.left_out.append((path, reason))

    def charge(self, unpacked_bytes: int, members: int = 0) -> None:
        """Counts decompressed bytes and members.

        Raises:
            LimitError: the file unpacks to more than the limits allow.
        """
        self._unpacked += unpacked_bytes
        self._members += members
        if self._unpacked > self.limits.unpacked_bytes:
            raise LimitError(f"unpacks to more than {self.limits.unpacked_bytes:,} bytes")
        if self._members > self.limits.members:
            raise LimitError(f"holds more than {self.limits.members:,} files")

    def plain(self) -> Plain:
        return {
            "documents": [document.plain(with_text=document is not self.own_text) for document in self.documents],
            "left_out": [list(item) for item in self.left_out],
            "missing": self.missing,
        }


def flat_table(rows: Iterable[Sequence[str]]) -> str:
    """A table inside a cell: one line, without the signs of Markdown."""
    lines = ("; ".join(cell for cell in (" ".join(str(item).split()) for item in row) if cell) for row in rows)
    return "[Table: " + " / ".join(line for line in lines if line) + "]"


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first row is the header. Cells are made one line."""
    lines = []
    for number, row in enumerate(rows):
        cells = [" ".join(str(cell).split()).replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
        if number == 0:
            lines.append("|" + " --- |" * len(cells))
    return "\n".join(lines)
