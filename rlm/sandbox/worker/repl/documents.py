"""Functions on the input that cells can call: ``grep``, ``search``, ``pages``, ``where``, ``tables``, ``sql``, ``table``.

They work on every context of text: a ``str``, a ``list`` or a ``dict`` of texts. Places (pages, sheets, slides) and tables
come from a side table that never enters a prompt.
"""

from __future__ import annotations

import io
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite3

from .column_types import READERS, SQL_TYPES, read_text

PASSAGE_CHARS = 1_000
MAX_HITS = 40
HIT_CHARS = 240
_SPACE = re.compile(r"[\s\u00a0\u2007\u202f]+")
_COUNTED = re.compile(r"(.*\b(?P<unit>row|line) )(\d+)", re.DOTALL)
_WORD = re.compile(r"\w+")
_COMMON = frozenset(
    "a about all an and any are as at be been but by can did do does for from had has have how i if in into is it its many more"
    " most much not of on or such than that the their them then there these they this those to was were what when where which who"
    " whom whose why will with would you your".split()
)


class Hit(str):
    """One place of the input. As text it reads "path, place: excerpt"."""

    path: str
    place: str
    start: int
    end: int
    text: str

    __slots__ = ("end", "path", "place", "start", "text")

    @classmethod
    def at(cls, source: Source, start: int, end: int, text: str, match_at: int | None = None) -> Hit:
        """A hit from ``start`` to ``end``. Its place is that of the match, which can begin later."""
        place = source.place_at(start if match_at is None else match_at)
        name = f"{source.path}, {place}" if source.path else place
        hit = cls(f"{name}: {' '.join(text.split())}")
        hit.path, hit.place, hit.start, hit.end, hit.text = source.path, place, start, end, text
        return hit


class Hits(list[Hit]):
    """Hits in order; shown one on a line. ``total`` counts all of them, also those that are not listed."""

    total = 0

    def __repr__(self) -> str:
        more = f"\n({self.total - len(self):,} more hits are not listed)" if self.total > len(self) else ""
        return ("\n".join(self) or "(no hits)") + more


class Source:
    """One text of the input with its places."""

    def __init__(
        self, path: str, text: str, places: Sequence[Sequence[Any]] = (), tables: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self.path = path
        self.text = text
        self.tables = tables
        self._starts = [int(start) for start, _ in places]
        self._labels = [str(label) for _, label in places]

    def place_at(self, offset: int) -> str:
        """Label of the place: a page, a sheet, or a line."""
        if not self._starts:
            return f"line {self.text.count(chr(10), 0, offset) + 1}"
        at = max(bisect_right(self._starts, offset) - 1, 0)
        counted = _COUNTED.fullmatch(self._labels[at])
        if counted is None:
            return self._labels[at]
        passed = self.text[self._starts[at] : max(offset, self._starts[at])]
        if counted["unit"] == "row":
            passed = "".join(passed.split('"')[::2])  # a quoted cell can hold line ends
        return f"{counted[1]}{int(counted[3]) + passed.count(chr(10))}"

    def parts(self) -> Iterator[tuple[str, str]]:
        ends = [*self._starts[1:], len(self.text)]
        for label, start, end in zip(self._labels, self._starts, ends, strict=True):
            yield label, self.text[start:end]


class Rows(list[tuple[Any, ...]]):
    """Rows of a query; ``columns`` are their names. Shown as delimited lines, the first hundred of them."""

    columns: tuple[str, ...] = ()

    def __repr__(self) -> str:
        shown = [
            " | ".join(self.columns),
            *(" | ".join("" if cell is None else str(cell) for cell in row) for row in self[:100]),
        ]
        more = [f"({len(self) - 100:,} more rows)"] if len(self) > 100 else []
        return "\n".join(shown + more)


class Library:
    """The functions, bound to one input. Indexes are built when they are first used."""

    def __init__(self, context: object, side_table: Sequence[Mapping[str, Any]] = ()) -> None:
        self.sources = list(_sources(context, side_table))
        self._index: sqlite3.Connection | None = None
        self._passages: list[tuple[int, int, int]] = []
        self._database: sqlite3.Connection | None = None
        self._tables: dict[str, tuple[Source, Mapping[str, Any]]] = {}
        for source in self.sources:
            for item in source.tables:
                self._tables[_table_name(str(item["name"]), self._tables)] = (source, item)

    def grep(
        self,
        pattern: str,
        path: str | None = None,
        *,
        k: int = MAX_HITS,
        ignore_case: bool = True,
        width: int = HIT_CHARS,
    ) -> Hits:
        """Finds a regular expression in the input; white space in it matches any white space, also a non-breaking space.

        Returns up to ``k`` hits with ``.path``, ``.place``, ``.start``, ``.end`` and ``.text``; overlapping excerpts are merged.
        """
        flags = re.IGNORECASE if ignore_case else 0
        spaced = re.sub(r"(?<!\\) +", r"[\\s\\u00a0\\u2007\\u202f]+", pattern)
        try:
            compiled = re.compile(spaced, flags | re.MULTILINE)
        except re.error:
            compiled = re.compile(
                _SPACE.sub(r"[\\s\\u00a0\\u2007\\u202f]+", re.escape(pattern).replace("\\ ", " ")), flags
            )
        hits = Hits()
        for source in self._chosen(path):
            for start, end, match_at in _merged(compiled.finditer(source.text), width, len(source.text)):
                hits.total += 1
                if len(hits) < k:
                    hits.append(Hit.at(source, start, end, source.text[start:end], match_at))
        return hits

    def search(self, words: str, k: int = 10) -> Hits:
        """Ranks passages of the input by how well they match the words (BM25); returns the best ``k`` as hits."""
        index = self._index or self._build_index()
        distinct = dict.fromkeys(_WORD.findall(words))
        terms = [term for term in distinct if term.lower() not in _COMMON][:64] or list(distinct)[:64]
        hits = Hits()
        if not terms:
            return hits
        query = " OR ".join(f'"{term}"' for term in terms)
        for (number,) in index.execute(
            "SELECT rowid FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?", (query, int(k))
        ):
            at, start, end = self._passages[number - 1]
            source = self.sources[at]
            hits.append(Hit.at(source, start, end, source.text[start:end]))
        hits.total = len(hits)
        return hits

    def pages(self, path: str | None = None) -> list[tuple[str, str]]:
        """Places of a document in order, as pairs of label and text: pages, slides, sheets or chapters."""
        return [part for source in self._chosen(path) for part in source.parts()]

    def where(self, text: str | int, path: str | None = None) -> str:
        """The place of a text, or of an offset, for instance "contracts/a.pdf, p. 3"; empty if it is not in the input."""
        for source in self._chosen(path):
            if isinstance(text, int):
                offset = text if 0 <= text < len(source.text) else -1
            else:
                offset = source.text.find(text)
                if offset < 0:
                    match = re.search(_SPACE.sub(r"\\s+", re.escape(text.strip()).replace("\\ ", " ")), source.text)
                    offset = match.start() if match else -1
            if offset >= 0:
                return ", ".join(part for part in (source.path, source.place_at(offset)) if part)
        return ""

    def tables(self) -> list[str]:
        """Names of all tables with columns, types and row counts, one line each."""
        return [
            f"{name} ({item['rows']:,} rows; {source.path}): "
            + ", ".join(
                f"{column} {SQL_TYPES.get(kind, 'TEXT')}"
                for column, kind in zip(item["columns"], item["types"], strict=True)
            )
            for name, (source, item) in self._tables.items()
        ]

    def sql(self, query: str, *parameters: Any) -> Rows:
        """Runs one SQL query (SQLite) over all tables of the input."""
        database = self._database or self._build_database()
        cursor = database.execute(query, parameters)
        rows = Rows(cursor.fetchall())
        rows.columns = tuple(column[0] for column in cursor.description or ())
        return rows

    def table(self, name: str) -> list[dict[str, Any]]:
        """Rows of one table as dicts."""
        if name not in self._tables:
            raise KeyError(f"no table {name!r}; tables are: {', '.join(self._tables) or 'none'}")
        _, item = self._tables[name]
        return [dict(zip(item["columns"], row, strict=True)) for row in self._rows(name)]

    def _chosen(self, path: str | None) -> list[Source]:
        if path is None:
            return self.sources
        chosen = [source for source in self.sources if source.path == path] or [
            source for source in self.sources if path in source.path
        ]
        if not chosen:
            raise KeyError(
                f"no document {path!r}; documents are: {', '.join(source.path for source in self.sources[:20])}"
            )
        return chosen

    def _build_index(self) -> sqlite3.Connection:
        index = _open_database()
        index.execute(
            "CREATE VIRTUAL TABLE passages USING fts5(text, content='', tokenize='porter unicode61 remove_diacritics 2')"
        )
        index.execute("BEGIN")
        index.executemany("INSERT INTO passages(rowid, text) VALUES (?, ?)", self._cut_passages())
        index.execute("COMMIT")
        self._index = index
        return index

    def _cut_passages(self) -> Iterator[tuple[int, str]]:
        for at, source in enumerate(self.sources):
            for start, end in _passages(source.text):
                self._passages.append((at, start, end))
                yield len(self._passages), source.text[start:end]

    def _build_database(self) -> sqlite3.Connection:
        database = _open_database()
        database.execute("BEGIN")
        for name, (_, item) in self._tables.items():
            columns = ", ".join(
                f"{_quoted(column)} {SQL_TYPES.get(kind, 'TEXT')}"
                for column, kind in zip(item["columns"], item["types"], strict=True)
            )
            database.execute(f"CREATE TABLE {_quoted(name)} ({columns})")
            marks = ", ".join("?" * len(item["columns"]))
            database.executemany(f"INSERT INTO {_quoted(name)} VALUES ({marks})", self._rows(name))  # noqa: S608  quoted
        database.execute("COMMIT")
        self._database = database
        return database

    def _rows(self, name: str) -> Iterator[list[Any]]:
        import csv  # noqa: PLC0415  most REPLs need none

        source, item = self._tables[name]
        readers = [READERS.get(kind, read_text) for kind in item["types"]]
        width = len(readers)
        lines = io.StringIO(source.text[item["start"] : item["end"]], newline="")
        for number, row in enumerate(csv.reader(lines, delimiter=str(item["delimiter"]))):
            if number < item["skip"] or not any(row):
                continue
            if len(row) < width:
                row.extend([""] * (width - len(row)))
            yield [read(cell) for read, cell in zip(readers, row, strict=False)]


def _open_database() -> sqlite3.Connection:
    import sqlite3  # noqa: PLC0415  most REPLs need none

    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA temp_store = MEMORY")
    return database


def _sources(context: object, side_table: Sequence[Mapping[str, Any]]) -> Iterator[Source]:
    item_of = {str(item["path"]): item for item in side_table}
    if isinstance(context, str):
        item: Mapping[str, Any] = side_table[0] if len(side_table) == 1 else {}
        yield Source(str(item.get("path", "")), context, item.get("places", ()), item.get("tables", ()))
        return
    pairs: Iterator[tuple[object, object]] = iter(())
    if isinstance(context, Mapping):
        pairs = iter(context.items())
    elif isinstance(context, list | tuple):
        pairs = ((f"[{number}]", value) for number, value in enumerate(context))
    for key, value in pairs:
        if isinstance(value, str):
            item = item_of.get(str(key), {})
            yield Source(str(key), value, item.get("places", ()), item.get("tables", ()))


def _merged(matches: Iterator[re.Match[str]], width: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Excerpts around matches, each with the start of its first match; those that overlap become one."""
    current: tuple[int, int, int] | None = None
    for match in matches:
        margin = max((width - (match.end() - match.start())) // 2, 0)
        start, end = max(match.start() - margin, 0), min(max(match.end() + margin, match.start() + 1), length)
        end = min(end, start + 4 * width + match.end() - match.start())
        if current is not None and start <= current[1] and end - current[0] < 4 * width:
            current = current[0], max(end, current[1]), current[2]
            continue
        if current is not None:
            yield current
        current = start, end, match.start()
    if current is not None:
        yield current


def _passages(text: str) -> Iterator[tuple[int, int]]:
    """Pieces of about ``PASSAGE_CHARS`` that end at a paragraph, a line or a sentence if there is one near the end."""
    start = 0
    while start < len(text):
        end = start + PASSAGE_CHARS
        if end < len(text):
            for sign in ("\n\n", "\n", ". ", " "):
                cut = text.rfind(sign, start + PASSAGE_CHARS // 2, end)
                if cut > 0:
                    end = cut + len(sign)
                    break
        yield start, min(end, len(text))
        start = end


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _table_name(wanted: str, taken: Mapping[str, object]) -> str:
    """A name that can be written in SQL without quotes: "Q1 sales.csv" becomes "Q1_sales"."""
    base = re.sub(r"\W+", "_", re.sub(r"\.(csv|tsv|parquet)$", "", wanted, flags=re.IGNORECASE)).strip("_") or "sheet"
    base = f"t_{base}" if base[0].isdigit() else base
    name, number = base, 2
    while name.lower() in {other.lower() for other in taken}:
        name, number = f"{base}_{number}", number + 1
    return name


REPL_NAMES = {"text": ("grep", "search", "where"), "documents": ("pages", "tables", "sql", "table")}
"""Functions for every context, and those for documents only."""


class DocumentFunctions:
    """The functions of a REPL, bound to its context. Nothing is read before the first call."""

    def __init__(self) -> None:
        self._context: object = None
        self._side_table = ""
        self._opened: Library | None = None

    def bind(self, context: object, side_table: str) -> None:
        """Sets the input; ``side_table`` is JSON with places and tables of each document, or empty."""
        self._context, self._side_table, self._opened = context, side_table, None

    @property
    def _library(self) -> Library:
        if self._opened is None:
            self._opened = Library(self._context, json.loads(self._side_table or "[]"))
        return self._opened

    def grep(self, pattern: str, path: str | None = None, **options: Any) -> Hits:
        """Finds a regular expression in the input. Options: k=40 hits, ignore_case=True, width=240 characters."""
        return self._library.grep(pattern, path, **options)

    def search(self, words: str, k: int = 10) -> Hits:
        """Ranks passages of the input by how well they match the words; returns the best ``k`` as hits."""
        return self._library.search(words, k)

    def where(self, text: str | int, path: str | None = None) -> str:
        """The place of a text, or of an offset, for instance "contracts/a.pdf, p. 3"; empty if it is not in the input."""
        return self._library.where(text, path)

    def pages(self, path: str | None = None) -> list[tuple[str, str]]:
        """Places of a document in order, as pairs of label and text."""
        return self._library.pages(path)

    def tables(self) -> list[str]:
        """Names of all tables with columns, types and row counts."""
        return self._library.tables()

    def sql(self, query: str, *parameters: Any) -> Rows:
        """Runs one SQL query (SQLite) over all tables of the input."""
        return self._library.sql(query, *parameters)

    def table(self, name: str) -> list[dict[str, Any]]:
        """Rows of one table as dicts."""
        return self._library.table(name)
