"""HTML as text: what a reader of the page sees, with headings, lists, tables, links and alternative texts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from .result import Builder, Output, markdown_table

_HIDDEN = frozenset(
    {
        "script",
        "style",
        "template",
        "noscript",
        "head",
        "svg",
        "math",
        "iframe",
        "object",
        "canvas",
        "select",
        "datalist",
    }
)
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_BLOCKS = frozenset(
    {"p", "div", "section", "article", "main", "header", "footer", "nav", "aside", "blockquote", "figure", "figcaption", "form",
     "fieldset", "details", "summary", "dl", "dt", "dd", "ul", "ol", "address", "hgroup", "caption", "pre", "li", "body", "html"}
)  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_MAX_DEPTH = 3_000
_MAX_SPAN = 50
_MAX_TAG_CHARS = 20_000
_DATA_ADDRESS = re.compile(r"data:[\w/+.;=-]{1,200},[A-Za-z0-9+/=%_-]+")


class _Table:
    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.spans: dict[int, tuple[int, str]] = {}
        self.cell: int | None = None  # where the text of the open cell begins
        self.span = (1, 1)


class PageReader(HTMLParser):
    """Collects the visible text of a page in ``text()``; ``title`` is the page's own."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._parts: list[str] = []
        self._stack: list[tuple[str, bool]] = []  # open elements, and if they hide their content
        self._hidden = 0
        self._in_title = False
        self._pre = 0
        self._lists: list[int | None] = []
        self._tables: list[_Table] = []
        self._link: list[tuple[str, int]] = []

    def text(self) -> str:
        joined = "".join(self._parts)
        joined = re.sub(r"[ \t]+\n", "\n", joined)
        return re.sub(r"\n{3,}", "\n\n", joined).strip() + "\n"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "title" and not self.title:
            self._in_title = True
        hides = tag in _HIDDEN or "hidden" in attributes or bool(_INVISIBLE.search(attributes.get("style") or ""))
        if tag not in _VOID:
            if len(self._stack) < _MAX_DEPTH:
                self._stack.append((tag, hides))
                self._hidden += hides
        elif hides:
            return
        if self._hidden:
            return
        self._open(tag, attributes)

    def _open(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag in _HEADINGS:
            self._break(2)
            self._write("#" * _HEADINGS[tag] + " ")
        elif tag in ("ul", "ol", "li"):
            self._open_list(tag, attributes)
        elif tag in ("table", "tr", "td", "th"):
            self._open_table(tag, attributes)
        elif tag in ("br", "img", "a"):
            self._open_inline(tag, attributes)
        elif tag in ("pre", "hr") or tag in _BLOCKS:
            self._break(1 if tag in ("div", "dt", "dd", "section") else 2)
            self._pre += tag == "pre"

    def _open_list(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag != "li":
            self._break(1 if self._lists else 2)
            first = attributes.get("start") or "1"
            self._lists.append(None if tag == "ul" else int(first) if first.isdigit() and len(first) < 9 else 1)
            return
        self._break(1)
        number = self._lists[-1] if self._lists else None
        self._write("  " * max(len(self._lists) - 1, 0) + ("- " if number is None else f"{number}. "))
        if number is not None:
            self._lists[-1] = number + 1

    def _open_table(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "table":
            self._break(2)
            self._tables.append(_Table())
        elif self._tables:
            self._close_cell()
            table = self._tables[-1]
            if tag == "tr" or not table.rows:
                table.rows.append([])
            if tag != "tr":
                table.cell = len(self._parts)
                table.span = (_span(attributes.get("colspan")), _span(attributes.get("rowspan")))

    def _open_inline(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "br":
            self._write("\n")
        elif tag == "a":
            self._link.append((attributes.get("href") or "", len(self._parts)))
        else:
            described = " ".join((attributes.get("alt") or "").split())
            if described:
                self._write(f"[Image: {described}]")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if not any(name == tag for name, _ in self._stack[-50:]):
            return
        while self._stack:
            name, hides = self._stack.pop()
            if not self._hidden:
                self._close(name)
            self._hidden -= hides
            if name == tag:
                break

    def _close(self, tag: str) -> None:
        if tag in _HEADINGS or tag in ("p", "blockquote"):
            self._break(2)
        elif tag == "pre":
            self._pre = max(self._pre - 1, 0)
            self._break(2)
        elif tag in ("ul", "ol"):
            if self._lists:
                self._lists.pop()
            self._break(1 if self._lists else 2)
        elif tag == "a" and self._link:
            self._close_link(*self._link.pop())
        elif tag in ("td", "th", "tr") and self._tables:
            self._close_cell()
        elif tag == "table" and self._tables:
            self._close_table()
        elif tag in _BLOCKS:
            self._break(1)

    def _close_link(self, target: str, start: int) -> None:
        text = " ".join("".join(self._parts[start:]).split())
        if text and target.startswith(("http://", "https://", "mailto:")) and text != target:
            self._parts[start:] = [f"[{text}]({target})"]

    def _close_cell(self) -> None:
        table = self._tables[-1]
        if table.cell is None:
            return
        text = " ".join("".join(self._parts[table.cell :]).split())
        del self._parts[table.cell :]
        table.cell = None
        row = table.rows[-1]
        self._fill_spans(table, row)
        columns, rows = table.span
        for _ in range(columns):
            if rows > 1:
                table.spans[len(row)] = (rows - 1, text)
            row.append(text)

    def _fill_spans(self, table: _Table, row: list[str]) -> None:
        while (spanned := table.spans.get(len(row))) is not None:
            rows, text = spanned
            if rows > 1:
                table.spans[len(row)] = (rows - 1, text)
            else:
                del table.spans[len(row)]
            row.append(text)

    def _close_table(self) -> None:
        self._close_cell()
        table = self._tables.pop()
        rows = [row for row in table.rows if any(row)]
        width = max(map(len, rows), default=0)
        if not width:
            return
        if width == 1 or self._tables:  # a layout table, or one inside a cell
            self._write("\n".join(" ".join(cell for cell in row if cell) for row in rows) + "\n")
        else:
            self._write(markdown_table([row + [""] * (width - len(row)) for row in rows]) + "\n\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._hidden:
            self._write(data if self._pre else re.sub(r"[ \t\r\n\f]+", " ", data))

    def _write(self, text: str) -> None:
        if text == " " and (not self._parts or self._parts[-1].endswith((" ", "\n"))):
            return
        if not self._pre and self._parts and self._parts[-1].endswith(("\n", " ")):
            text = text.lstrip(" ") if not text.startswith("  ") or text.isspace() else text
        if text:
            self._parts.append(text)

    def _break(self, lines: int) -> None:
        tail = "".join(self._parts[-3:])
        have = len(tail) - len(tail.rstrip("\n"))
        if tail and have < lines:
            self._parts.append("\n" * (lines - have))


def _span(value: str | None) -> int:
    return min(max(int(value), 1), _MAX_SPAN) if value and value.isdigit() and len(value) < 5 else 1


def page_text(markup: str) -> tuple[str, str]:
    """The visible text of a page and its title."""
    reader = PageReader()
    reader.feed(_bound_tags(markup))  # at once: the parser scans an open construct again for every piece
    reader.close()
    return reader.text(), " ".join(reader.title.split())


def _bound_tags(markup: str) -> str:
    """Escapes ``<`` of tags that have no end near by: the parser searches for their end again and again."""
    markup = _DATA_ADDRESS.sub("data:", markup)
    parts: list[str] = []
    done, end = 0, -1
    for match in re.finditer("<", markup):
        start = match.start()
        if end < start:
            end = markup.find(">", start)
            end = len(markup) + _MAX_TAG_CHARS if end < 0 else end
        if end - start > _MAX_TAG_CHARS:
            parts += markup[done:start], "&lt;"
            done = start + 1
    return "".join(parts) + markup[done:]


def convert(markup: str, path: str, output: Output) -> None:
    """Adds the document of an HTML page to ``output``."""
    text, title = page_text(markup)
    document = Builder(path, "html")
    if title and title not in text[: 4 * len(title) + 200]:
        document.line(title + "\n")
    document.write(text)
    output.add(document)
