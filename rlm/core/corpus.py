"""The sources of a run: its texts by path with their places, for citations, coverage and the description of the input."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from rlm.core.cells import PlainValue, Quote
from rlm.core.describe import describe_context
from rlm.core.evidence import Citation, find_quote
from rlm.core.places import label_at

SideItem: TypeAlias = Mapping[str, Any]
"""Path, kind, pages, places and tables of one document."""

MAX_LISTED = 20
MAX_PATH_CHARS = 200
MAX_FIRST_CHARS = 3_000  # of all first lines together
_FIRST_LINE_CHARS = 100
_HEAD_CHARS = 2_000
OVERLAP_CHARS = 50_000  # of two pieces of a text: longer than any quote, in other words and with other white space


@dataclass(frozen=True)
class Corpus:
    """The texts of a context.

    Attributes:
        context: the context.
        side_table: JSON with one ``SideItem`` for each document; empty if the context does not come from documents.
        read: reads the text of a context that is an open file in pieces, which start again at each call.
        note: what ``description`` adds about the context.
    """

    context: PlainValue
    side_table: str = ""
    read: Callable[[], Iterator[str]] | None = None
    note: str = ""

    @cached_property
    def items(self) -> list[SideItem]:
        return list(_read_items(self.side_table)) if self.side_table else []

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """Texts by path. Items of a list are named by number, and a single text without a name by ""."""
        context = self.context if self.read is None else "".join(self.read())
        match context:
            case str():
                return {str(self.items[0]["path"]) if len(self.items) == 1 else "": context}
            case Mapping():
                return {str(key): value for key, value in context.items() if isinstance(value, str)}
            case list() | tuple():
                return {f"[{number}]": value for number, value in enumerate(context) if isinstance(value, str)}
            case _:
                return {}

    @cached_property
    def chars(self) -> int:
        return sum(map(len, self.texts.values()))

    @property
    def has_documents(self) -> bool:
        return bool(self.side_table)

    @cached_property
    def has_tables(self) -> bool:
        return any(item.get("tables") for item in self.items)

    @cached_property
    def _places(self) -> Mapping[str, tuple[Sequence[int], Sequence[str]]]:
        return {
            str(item["path"]): ([int(start) for start, _ in places], [str(label) for _, label in places])
            for item in self.items
            if (places := item.get("places"))
        }

    def places_of(self, path: str) -> tuple[Sequence[int], Sequence[str]]:
        """Offsets and labels of the places of a document; empty if its places are lines."""
        return self._places.get(path, ((), ()))

    def place_at(self, path: str, offset: int) -> str:
        """Label of the place at an offset: a page, a sheet and row, or a line."""
        starts, labels = self.places_of(path)
        return label_at(starts, labels, self.texts[path], offset)

    def cite(self, quotes: Sequence[Quote]) -> tuple[Citation, ...]:
        """Looks quotes up in the texts, in order."""
        if self.read is not None:
            return tuple(_cite_in_pieces(quotes, self.read()))
        return tuple(self._cite(quote) for quote in quotes)

    def _cite(self, quote: Quote) -> Citation:
        path = self._resolve(quote.path)
        match = find_quote(quote.text, self.texts, path)
        if match is None:
            return Citation(path or "", "", quote.text)
        name, start, end, exact = match
        return Citation(name, self.place_at(name, start), quote.text, start, end, verified=True, exact=exact)

    def _resolve(self, path: str | None) -> str | None:
        """The document that a path names: itself, or the only one that ends with it."""
        if path is None or path in self.texts:
            return path
        ending = [name for name in self.texts if name.endswith(f"/{path}")]
        return ending[0] if len(ending) == 1 else None

    def side_table_for(self, context: PlainValue) -> str:
        """The side table of those documents that another context contains with their whole text."""
        if not self.side_table:
            return ""
        if context is self.context:
            return self.side_table
        item_of = {str(item["path"]): item for item in self.items}
        items: list[SideItem] = []
        if isinstance(context, str):
            items = [item for path, item in item_of.items() if self.texts.get(path) == context][:1]
        elif isinstance(context, Mapping):
            items = [
                item_of[key]
                for key, text in context.items()
                if isinstance(key, str) and key in item_of and self.texts.get(key) == text
            ]
        return json.dumps(items, ensure_ascii=False) if items else ""

    @cached_property
    def description(self) -> str:
        """The context in one line, for the first message."""
        return self._describe_documents() if self.has_documents else describe_context(self.context) + self.note

    def _describe_documents(self) -> str:
        """Number, formats and sizes of the documents."""
        if len(self.items) == 1 and isinstance(self.context, str):
            return f"a str of {len(self.context):,} characters: the text of {_describe_item(self.items[0])}"
        kinds = Counter(str(item["kind"]) for item in self.items)
        counts = ", ".join(_count_kind(kind, count, self.items) for kind, count in kinds.most_common())
        shown = [
            f"{_describe_item(item)}, {len(self.texts.get(str(item['path']), '')):,} characters"
            for item in self.items[:MAX_LISTED]
        ]
        more = f"; and {len(self.items) - MAX_LISTED:,} more" if len(self.items) > MAX_LISTED else ""
        total = f"{self.chars:,} characters"
        return f"a dict of {len(self.items):,} documents, path to text ({counts}; {total}): {'; '.join(shown)}{more}"

    def first_lines(self) -> list[tuple[str, str]]:
        """The first lines of the documents by path, for the first message: more of each if there are few documents."""
        paths = [str(item["path"]) for item in self.items[:MAX_LISTED]]
        lines = max(1, 6 // max(len(paths), 1))
        openings: list[tuple[str, str]] = []
        left = MAX_FIRST_CHARS
        for path in paths:
            head = self.texts.get(path, "")[:_HEAD_CHARS].splitlines()
            filled = [" ".join(line.split())[:_FIRST_LINE_CHARS] for line in head if any(map(str.isalnum, line))]
            text = " / ".join(filled[:lines])
            left -= len(text)
            if left < 0:
                break
            openings.append((path, text))
        return openings


def _cite_in_pieces(quotes: Sequence[Quote], pieces: Iterator[str]) -> list[Citation]:
    """Looks quotes up in a text that can be larger than memory: piece by piece, each with the end of the one before."""
    citations = [Citation(quote.path or "", "", quote.text) for quote in quotes]
    window, start, line = "", 0, 1
    for piece in pieces:
        left = window[-OVERLAP_CHARS:]
        dropped = len(window) - len(left)
        start, line, window = start + dropped, line + window.count("\n", 0, dropped), left + piece
        for number, quote in enumerate(quotes):
            hit = None if citations[number].verified else find_quote(quote.text, {"": window})
            if hit is not None:
                _, first, last, exact = hit
                place = f"line {line + window.count(chr(10), 0, first)}"
                citations[number] = Citation(
                    "", place, quote.text, start + first, start + last, verified=True, exact=exact
                )
    return citations


def _read_items(side_table: str) -> Iterator[SideItem]:
    """The items of a JSON list, one by one: those of 100,000 documents at once would hold the interpreter's lock too long."""
    decoder, at = json.JSONDecoder(), 1
    while side_table[at : at + 1] not in ("]", ""):
        item, at = decoder.raw_decode(side_table, at)
        yield item
        at += 2 if side_table[at : at + 2] == ", " else side_table[at : at + 1] == ","


def _describe_item(item: SideItem) -> str:
    pages, tables = item.get("pages"), item.get("tables") or ()
    facts = [str(item["kind"])]
    if pages:
        facts.append(f"{pages:,} page{'' if pages == 1 else 's'}")
    if tables:
        rows = sum(int(table["rows"]) for table in tables)
        facts.append(f"{len(tables):,} table{'' if len(tables) == 1 else 's'}, {rows:,} rows")
    return f"{str(item['path'])[:MAX_PATH_CHARS]!r} ({', '.join(facts)})"


def _count_kind(kind: str, count: int, items: Sequence[SideItem]) -> str:
    pages = sum(int(item.get("pages") or 0) for item in items if item["kind"] == kind)
    return f"{count:,} {kind}" + (f" with {pages:,} pages" if pages else "")
