"""HTML as text: what a reader of the page sees, with headings, lists, tables, links and alternative texts."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from .encodings import decode
from .result import Builder, Output, markdown_table

_HIDDEN = frozenset(
    {"script", "style", "template", "noscript", "head", "iframe", "object", "canvas", "datalist", "video", "audio", "defs",
     "symbol", "metadata", "desc", "annotation", "annotation-xml", "title"}
)  # fmt: skip
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)
_BLOCKS = frozenset(
    {"p", "div", "section", "article", "main", "header", "footer", "nav", "aside", "blockquote", "figure", "figcaption", "form",
     "fieldset", "details", "summary", "dialog", "text", "legend", "dl", "dt", "dd", "ul", "ol", "address", "hgroup", "caption",
     "pre", "li", "body", "html"}
)  # fmt: skip
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INVISIBLE = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.IGNORECASE)
_SCRIPT = re.compile(r"[-+−]?\d{1,4}|[a-z]")
_APART = frozenset({"a", "button"})  # side by side, a page shows them with space between
_SHOWN_INPUTS = {"checkbox": ("☐", "☒"), "radio": ("○", "●")}
_UNSHOWN_INPUTS = frozenset({"hidden", "password", "file", "image", "color", "range"})
_MAX_DEPTH = 3_000
_MAX_SPAN = 50
_MARKER = re.compile(r"(?:^|\n) *(?:-|\d+\.) $")
_MAX_TAG_CHARS = 20_000
_DATA_ADDRESS = re.compile(r"data:[\w/+.;=-]{1,200},[A-Za-z0-9+/=%_-]+")


class _Table:
    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.spans: dict[int, tuple[int, str]] = {}
        self.cell: int | None = None  # where the text of the open cell begins
        self.span = (1, 1)
        self.filled = False  # the last row has the cells that reach into it from above


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
        self._scripts: list[int] = []  # open superscripts: start of their text
        self._choices: list[tuple[bool, int]] = []  # options of the open list of choices: selected, start of its text
        self._in_choice = False

    def text(self) -> str:
        joined = "".join(self._parts)
        joined = re.sub(r"[ \t]+\n", "\n", joined.replace("\u00ad", "").replace("\u200b", ""))
        return re.sub(r"\n{3,}", "\n\n", joined).strip() + "\n"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "title" and not self.title:
            self._in_title = True
        hides = _is_hidden(tag, attributes)
        if tag == "math" and attributes.get("alttext") and not self._hidden:
            self._write(f" {attributes['alttext']} ")
            hides = True
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
        elif tag in ("br", "img", "a", "button", "sup", "q"):
            self._open_inline(tag, attributes)
        elif tag in ("select", "option", "input"):
            self._open_control(tag, attributes)
        elif tag in ("pre", "hr") or tag in _BLOCKS:
            self._break(1 if tag in ("div", "dt", "dd", "section") else 2)
            self._pre += tag == "pre"

    def _open_list(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag != "li":
            self._break(1 if self._lists else 2, beside=False)
            first = attributes.get("start") or "1"
            self._lists.append(None if tag == "ul" else int(first) if first.isdigit() and len(first) < 9 else 1)
            return
        self._break(1, beside=False)
        number = self._lists[-1] if self._lists else None
        given = attributes.get("value") or ""
        if number is not None and given.isdigit() and len(given) < 9:
            number = int(given)
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
                self._fill_row()
                table.rows.append([])
                table.filled = False
            if tag != "tr":
                table.cell = len(self._parts)
                table.span = (_span(attributes.get("colspan")), _span(attributes.get("rowspan")))

    def _open_inline(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "br":
            self._write("\n")
        elif tag == "sup":
            self._scripts.append(len(self._parts))
        elif tag == "q":
            self._write("“")
        elif tag in _APART:
            if self._parts and self._parts[-1] == "":
                self._parts[-1] = " "
            self._link.append((attributes.get("href") or "", len(self._parts)))
        else:
            described = " ".join((attributes.get("alt") or "").split())
            if described:
                self._write(f"[Image: {described}]")

    def _open_control(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag == "select":
            self._choices = []
            self._in_choice = True
        elif tag == "option":
            self._choices.append(("selected" in attributes, len(self._parts)))
        else:
            kind = (attributes.get("type") or "text").lower()
            if kind in _SHOWN_INPUTS:
                self._write(_SHOWN_INPUTS[kind]["checked" in attributes] + " ")
            elif kind not in _UNSHOWN_INPUTS:
                self._write(f" {attributes.get('value') or attributes.get('placeholder') or ''} ")

    def _close_choices(self) -> None:
        """Shows what a closed list of choices shows: the selected options, or the first one."""
        self._in_choice = False
        if not self._choices:
            return
        starts = [start for _, start in self._choices]
        texts = [
            " ".join("".join(self._parts[start:end]).split())
            for start, end in zip(starts, [*starts[1:], len(self._parts)], strict=True)
        ]
        shown = [text for text, (selected, _) in zip(texts, self._choices, strict=True) if selected] or texts[:1]
        self._parts[starts[0] :] = [" " + ", ".join(shown) + " "]
        self._choices = []

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
        elif tag in _APART and self._link:
            self._close_link(*self._link.pop())
        elif tag == "sup" and self._scripts:
            self._close_script(self._scripts.pop())
        elif tag == "q":
            self._write("”")
        elif tag == "select":
            self._close_choices()
        elif tag in ("td", "th", "tr") and self._tables:
            self._close_cell()
            if tag == "tr":
                self._fill_row()
        elif tag == "table" and self._tables:
            self._close_table()
        elif tag in _BLOCKS:
            self._break(1)

    def _close_link(self, target: str, start: int) -> None:
        text = " ".join("".join(self._parts[start:]).split())
        if text and target.startswith(("http://", "https://", "mailto:")) and text != target:
            self._parts[start:] = [f"[{text}]({target})"]
        if self._parts and self._parts[-1]:
            self._parts.append("")  # a link that follows at once is set apart

    def _close_script(self, start: int) -> None:
        """Marks a power: 10<sup>6</sup> is not 106."""
        text = "".join(self._parts[start:])
        before = "".join(self._parts[max(start - 2, 0) : start])
        if _SCRIPT.fullmatch(text) and before[-1:].isalnum():
            self._parts[start:] = ["^" + text]

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

    def _fill_row(self) -> None:
        """Ends a row with the cells of earlier rows that reach into it."""
        table = self._tables[-1]
        if table.rows and table.spans and not table.filled:
            self._fill_spans(table, table.rows[-1])
            for _ in range(_MAX_SPAN):
                if not table.spans or max(table.spans) < len(table.rows[-1]):
                    break
                table.rows[-1].append("")
                self._fill_spans(table, table.rows[-1])
        table.filled = True

    def _close_table(self) -> None:
        self._close_cell()
        self._fill_row()
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
        last = "".join(self._parts[-2:])[-1:]
        if text == " " and last in ("", " ", "\n"):
            return
        if not self._pre and last in (" ", "\n"):
            text = text.lstrip(" ") if not text.startswith("  ") or text.isspace() else text
        if text:
            self._parts.append(text)

    def _break(self, lines: int, *, beside: bool = True) -> None:
        """Ends the line. A block that opens a list item stays beside its number, unless ``beside`` is False."""
        tail = "".join(self._parts[-4:])
        if self._in_choice or (beside and _MARKER.search(tail[-20:])):
            return
        have = len(tail) - len(tail.rstrip("\n"))
        if tail and have < lines:
            self._parts.append("\n" * (lines - have))


def _is_hidden(tag: str, attributes: dict[str, str | None]) -> bool:
    if tag == "template":  # a declarative shadow tree is shown
        return "shadowrootmode" not in attributes
    if tag == "dialog":
        return "open" not in attributes
    return tag in _HIDDEN or "hidden" in attributes or bool(_INVISIBLE.search(attributes.get("style") or ""))


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


def convert(data: bytes, path: str, output: Output, encoding: str = "") -> None:
    """Adds the document of an HTML page to ``output``."""
    document = Builder(path, "html")
    text, title = page_text(decode(data, document, declared=encoding))
    if title and title not in text[: 4 * len(title) + 200]:
        document.line(title + "\n")
    document.write(text)
    output.add(document)
