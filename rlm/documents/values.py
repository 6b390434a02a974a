"""Documents as values: text with places, what was left out, and the summary that a person reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from rlm.core.places import label_at
from rlm.core.values import frozen

Plain = Mapping[str, Any]


@frozen
class Place:
    """A named part of a document: ``start`` is the offset of its first character, ``label`` for instance "p. 3"."""

    start: int
    label: str


@frozen
class Table:
    """A table whose rows stand in the document's text as delimited lines.

    Attributes:
        name: the sheet, table or file name.
        columns, types: names, and one of "integer", "real", "text", "money", "percent", "decimal comma" for each.
        rows: number of rows below the header.
        start, end: offsets of its lines in the text.
        skip: lines before the first row.
        delimiter: between the cells of a line.
    """

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: int
    start: int
    end: int
    skip: int
    delimiter: str


@dataclass(frozen=True)
class Document:
    """One text with provenance.

    Attributes:
        path: its name; members of archives and mails stand behind ``!/``.
        kind: its format, for instance "pdf".
        text: all of its text.
        places: pages, slides, sheets or cells, by offset; empty for plain text, whose places are lines.
        pages: number of pages or slides, if the format has them.
        notes: facts for the user, for instance pages without text.
        size_bytes: of the file it comes from; 0 for members of another file.
    """

    path: str
    kind: str
    text: str = field(repr=False)
    places: tuple[Place, ...] = field(default=(), repr=False)
    tables: tuple[Table, ...] = field(default=(), repr=False)
    pages: int | None = None
    notes: tuple[str, ...] = ()
    size_bytes: int = 0

    def place_at(self, offset: int) -> str:
        """Label of the place at an offset of the text: a page, a sheet and row, or a line."""
        starts, labels = self._labels
        return label_at(starts, labels, self.text, offset)

    @cached_property
    def _labels(self) -> tuple[list[int], list[str]]:
        return [place.start for place in self.places], [place.label for place in self.places]


@frozen
class LeftOut:
    """A file or a part of one that was not read, and the reason."""

    path: str
    reason: str


class Documents(Sequence[Document]):
    """The documents of some sources, in order, with everything that was left out.

    Attributes:
        left_out: files that were not read, each with its reason.
        ignored: number of hidden, generated or ignored files.
        sources: names that read the same documents again; empty if there are none.
    """

    def __init__(
        self,
        documents: Sequence[Document],
        left_out: Sequence[LeftOut] = (),
        *,
        ignored: int = 0,
        sources: Sequence[str] = (),
    ) -> None:
        self._documents = tuple(documents)
        self._by_path = {document.path: document for document in documents}
        self.left_out = tuple(left_out)
        self.ignored = ignored
        self.sources = tuple(sources)

    def __len__(self) -> int:
        return len(self._documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents)

    def __getitem__(self, key: Any) -> Any:
        """A document by number or by path."""
        return self._by_path[key] if isinstance(key, str) else self._documents[key]

    def __contains__(self, item: object) -> bool:
        return item in self._by_path if isinstance(item, str) else item in self._documents

    @property
    def context(self) -> str | dict[str, str]:
        """Input of a run: the text of a single document, or a dict from path to text."""
        if len(self._documents) == 1:
            return self._documents[0].text
        return {document.path: document.text for document in self._documents}

    def side_table(self) -> str:
        """JSON with format, pages, places and tables of each document, for the REPLs and the citations of a run."""
        # Item by item: all of 100,000 documents at once would hold the interpreter's lock too long.
        items = [json.dumps(_side_item(document), ensure_ascii=False) for document in self._by_path.values()]
        return f"[{', '.join(items)}]"

    @property
    def pages(self) -> int:
        return sum(document.pages or 0 for document in self._documents)

    @property
    def chars(self) -> int:
        return sum(len(document.text) for document in self._documents)

    def summary(self) -> str:
        """One line: files, pages, characters, and what was left out and why."""
        parts = [_count(len(self._documents), "document")]
        if self.pages:
            parts.append(_count(self.pages, "page"))
        parts.append(f"{self.chars:,} characters")
        line = ", ".join(parts)
        if self.left_out:
            shown = "; ".join(f"{item.path} ({item.reason})" for item in self.left_out[:3])
            more = f"; and {len(self.left_out) - 3:,} more" if len(self.left_out) > 3 else ""
            line += f"; left out: {shown}{more}"
        if self.ignored:
            line += f"; {self.ignored:,} hidden or ignored"
        return line

    def to_dict(self) -> dict[str, Any]:
        """Files with format, size, pages, characters and notes, and the files left out, as plain data."""
        return {
            "documents": [
                {
                    "path": item.path,
                    "kind": item.kind,
                    "bytes": item.size_bytes,
                    "pages": item.pages,
                    "chars": len(item.text),
                    "tables": [table.name for table in item.tables],
                    "notes": list(item.notes),
                }
                for item in self._documents
            ],
            "left_out": [{"path": item.path, "reason": item.reason} for item in self.left_out],
            "ignored": self.ignored,
        }

    def __repr__(self) -> str:
        return f"<Documents: {self.summary()}>"


def _side_item(document: Document) -> dict[str, Any]:
    item: dict[str, Any] = {"path": document.path, "kind": document.kind}
    if document.pages is not None:
        item["pages"] = document.pages
    if document.places:
        item["places"] = [(place.start, place.label) for place in document.places]
    if document.tables:
        item["tables"] = [asdict(table) for table in document.tables]
    return item


def names_files(context: object) -> bool:
    """True for a path object, and for a list of path objects. Text is never taken for a path."""
    if isinstance(context, list | tuple):
        return bool(context) and all(isinstance(item, os.PathLike) for item in context)
    return isinstance(context, os.PathLike)


def document_from(item: Plain, size_bytes: int) -> Document:
    """A document from what a converter returned.

    Raises:
        ValueError, TypeError, KeyError: the data has another form. It comes out of the sandbox and is untrusted.
    """
    text = item["text"]
    if not isinstance(text, str):
        raise TypeError("text must be a string")
    places = tuple(Place(_offset(start, text), str(label)[:300]) for start, label in item["places"])
    if any(first.start > second.start for first, second in pairwise(places)):
        raise ValueError("places must be in order")
    pages = item["pages"]
    return Document(
        path=str(item["path"])[:4_000],
        kind=str(item["kind"])[:30],
        text=text,
        places=places,
        tables=tuple(_table_from(table, text) for table in item["tables"]),
        pages=None if pages is None else int(pages),
        notes=tuple(str(note)[:1_000] for note in item["notes"][:100]),
        size_bytes=size_bytes,
    )


def _table_from(item: Plain, text: str) -> Table:
    columns = tuple(str(name) for name in item["columns"])
    types = tuple(str(kind) for kind in item["types"])
    if len(columns) != len(types):
        raise ValueError("a table needs one type for each column")
    return Table(
        name=str(item["name"])[:300],
        columns=columns,
        types=types,
        rows=int(item["rows"]),
        start=_offset(item["start"], text),
        end=_offset(item["end"], text),
        skip=int(item["skip"]),
        delimiter=str(item["delimiter"])[:1],
    )


def _offset(value: Any, text: str) -> int:
    if not isinstance(value, int) or not 0 <= value <= len(text):
        raise ValueError("an offset lies outside the text")
    return value


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
