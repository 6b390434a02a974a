"""OpenDocument files: text (odt), presentations (odp) and spreadsheets (ods)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .numbering import ordinal
from .packages import Element, Package, text_of
from .result import Builder, ConversionError, Output, flat_table, markdown_table
from .tables import write_sheet

_MAX_REPEATS = 1_000


def convert(data: bytes, path: str, output: Output, kind: str) -> None:
    """Adds the document of an odt, odp or ods file to ``output``."""
    package = Package(data, output)
    if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise ConversionError("encrypted with a password")
    root = package.xml("content.xml")
    document = Builder(path, kind)
    body = root.find("body")
    reader = _Reader(document, output, _list_styles(root, package.optional_xml("styles.xml")))
    for story in body if body is not None else ():
        if kind == "ods":
            reader.sheets(story)
        elif kind == "odp":
            reader.slides(story)
        else:
            for block in reader.blocks(story):
                document.line(block)
            reader.write_notes()
    if kind == "odt":
        _page_stories(package, reader, document)
    output.add(document)


def _page_stories(package: Package, reader: _Reader, document: Builder) -> None:
    styles = package.optional_xml("styles.xml")
    texts: dict[str, None] = {}
    for page in styles.iter("master-page") if styles is not None else ():
        for story in page:
            if story.tag in ("header", "footer"):
                text = " ".join(" ".join(reader.blocks(story)).split())
                if text:
                    texts[f"[{story.tag.title()}] {text}"] = None
    for text in texts:
        document.line("\n" + text)


ListStyles = dict[str, dict[int, tuple[str, str, str, int]]]
"""Levels of list styles: form of the number, text before and after it, first number."""


def _list_styles(*roots: Element | None) -> ListStyles:
    styles: ListStyles = {}
    for root in roots:
        for style in root.iter("list-style") if root is not None else ():
            levels = styles.setdefault(style.get("name", ""), {})
            for level in style:
                depth, start = level.get("level", ""), level.get("start-value", "1")
                if depth.isdigit():
                    form = level.get("num-format", "1") if level.tag == "list-level-style-number" else ""
                    first = int(start) if start.isdigit() and len(start) < 9 else 1
                    levels[int(depth)] = (form, level.get("num-prefix", ""), level.get("num-suffix", ""), first)
    return styles


class _Reader:
    def __init__(self, document: Builder, output: Output, list_styles: ListStyles) -> None:
        self._document = document
        self._output = output
        self._list_styles = list_styles
        self._last_numbers: dict[str, int] = {}
        self._in_cell = 0
        self._notes: list[str] = []

    def write_notes(self) -> None:
        for note in self._notes:
            self._document.line("\n" + note)
        self._notes.clear()

    def blocks(self, parent: Iterable[Element], depth: int = 0) -> Iterator[str]:
        for child in parent:
            tag = child.tag
            if tag == "h":
                level = child.get("outline-level", "1")
                yield "#" * min(int(level) if level.isdigit() else 1, 6) + " " + self._inline(child).strip()
            elif tag == "p":
                yield self._inline(child)
            elif tag == "list":
                yield from self._list(child, depth)
            elif tag == "table":
                rows = [["" if cell is None else str(cell) for cell in row] for row in self.rows(child)]
                width = max(map(len, rows), default=0)
                rows = [row + [""] * (width - len(row)) for row in rows]
                if rows:
                    yield flat_table(rows) if self._in_cell else "\n" + markdown_table(rows) + "\n"
            elif tag in ("tracked-changes", "sequence-decls", "forms", "annotation", "desc", "title"):
                continue
            elif tag == "frame":
                yield from self._frame(child, depth)
            elif tag == "notes":
                text = " ".join(" ".join(self.blocks(child)).split())
                if text:
                    yield f"[Speaker notes] {text}"
            else:
                yield from self.blocks(child, depth)

    def _list(self, parent: Element, depth: int, inherited: str = "") -> Iterator[str]:
        style = parent.get("style-name") or inherited
        form, before, after, first = self._list_styles.get(style, {}).get(depth + 1, ("", "", "", 1))
        key = f"{style}/{depth}"
        number = self._last_numbers.get(key, first - 1) if parent.get("continue-numbering") == "true" else first - 1
        for item in parent:
            if item.tag not in ("list-item", "list-header"):
                continue
            start = item.get("start-value", "")
            number = int(start) if start.isdigit() and len(start) < 9 else number + (item.tag == "list-item")
            label = f"{before}{ordinal(number, _FORMS.get(form, 'decimal'))}{after} " if form else "- "
            blocks = self._item_blocks(item, depth + 1, style)
            for position, block in enumerate(blocks):
                yield ("  " * depth + label if position == 0 and not block.startswith("  ") else "") + block
        self._last_numbers[key] = number

    def _item_blocks(self, item: Element, depth: int, style: str) -> Iterator[str]:
        for child in item:
            yield from self._list(child, depth, style) if child.tag == "list" else self.blocks([child], depth)

    def _frame(self, frame: Element, depth: int) -> Iterator[str]:
        described = next((item for item in frame if item.tag in ("desc", "title") and (item.text or "").strip()), None)
        if described is not None and frame.find("image") is not None:
            yield f"[Image: {' '.join(text_of(described).split())}]"
        yield from self.blocks(frame, depth)

    def _inline(self, parent: Element) -> str:
        parts = [parent.text or ""]
        for child in parent:
            tag = child.tag
            if tag == "s":
                count = child.get("c", "1")
                parts.append(" " * min(int(count) if count.isdigit() else 1, 200))
            elif tag == "tab":
                parts.append("\t")
            elif tag == "line-break":
                parts.append("\n")
            elif tag == "frame":
                parts.append(" ".join(block.strip() for block in self._frame(child, 0) if block.strip()))
            elif tag == "note":
                citation = child.find("note-citation")
                label = "*" if citation is None else text_of(citation)
                kind = "Endnote" if child.get("note-class") == "endnote" else "Footnote"
                body = child.find("note-body")
                text = " ".join(" ".join(self.blocks(body)).split()) if body is not None else ""
                self._notes.append(f"[{kind} {label}] {text}")
                parts.append(f"[^{label}]")
            elif tag == "annotation":
                text = " ".join(" ".join(self._inline(item) for item in child.findall("p")).split())
                self._notes.append(f"[Comment] {text}")
            elif tag == "a":
                text, target = self._inline(child), child.get("href", "")
                parts.append(
                    f"[{text}]({target})" if target.startswith(("http", "mailto:")) and target != text else text
                )
            elif tag not in ("annotation-end", "change", "change-start", "change-end", "tracked-changes"):
                parts.append(self._inline(child))
            parts.append(child.tail or "")
        return "".join(parts)

    def slides(self, story: Element) -> None:
        for number, page in enumerate(story.findall("page"), 1):
            self._document.place(f"slide {number}")
            self._document.line(f"<!-- slide {number} -->")
            for block in self.blocks(page):
                if block.strip():
                    self._document.line(block)
            self._document.pages = number
            self._document.line()

    def sheets(self, story: Element) -> None:
        for sheet in story.findall("table"):
            name = sheet.get("name", "")
            rows = list(self.numbered_rows(sheet))
            while rows and not any(cell not in (None, "") for cell in rows[-1][1]):
                rows.pop()
            write_sheet(self._document, name, [cells for _, cells in rows], [number for number, _ in rows])

    def rows(self, table: Element) -> Iterator[list[Any]]:
        """Rows of a table. A value is repeated in the cells that its own one covers."""
        return (cells for _, cells in self.numbered_rows(table))

    def numbered_rows(self, table: Element) -> Iterator[tuple[int, list[Any]]]:
        """Rows with their numbers. Of empty rows that follow each other, one is kept."""
        count = number = 0
        below: dict[int, tuple[int, Any]] = {}
        for row in _rows_of(table):
            cells = self._row(row, below)
            times = _count(row.get("number-rows-repeated"))
            for at in range(min(times, _MAX_REPEATS) if cells else 1):
                count += 1
                if count > self._output.limits.rows:
                    self._document.note(f"only the first {self._output.limits.rows:,} rows are read")
                    return
                yield number + at + 1, cells
            number += times

    def _row(self, row: Element, below: dict[int, tuple[int, Any]]) -> list[Any]:
        """Cells of a row; ``below`` has the values that reach into further rows, by column."""
        cells: list[Any] = []
        right: tuple[int, Any] = (0, None)
        for cell in row:
            if cell.tag not in ("table-cell", "covered-table-cell"):
                continue
            times = min(_count(cell.get("number-columns-repeated")), _MAX_REPEATS)
            self._in_cell += 1
            value = _cell(cell, self)
            self._in_cell -= 1
            columns, rows = _count(cell.get("number-columns-spanned")), _count(cell.get("number-rows-spanned"))
            for _ in range(times):
                shown = value
                if cell.tag == "covered-table-cell" and value in (None, ""):
                    left, shown = below.get(len(cells), right)
                    if len(cells) in below:
                        below[len(cells)] = (left - 1, shown)
                        if left <= 1:
                            del below[len(cells)]
                    else:
                        right = (left - 1, shown) if left > 1 else (0, None)
                        shown = shown if left > 0 else None
                cells.append(shown)
            if columns > 1:
                right = (columns - 1, value)
            if rows > 1:
                below.update({len(cells) - 1 + at: (rows - 1, value) for at in range(min(columns, 100))})
        while cells and cells[-1] in (None, ""):
            cells.pop()
        return cells


_FORMS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}


def _count(text: str | None) -> int:
    return int(text) if text and text.isdigit() and len(text) < 9 else 1


def _rows_of(table: Element) -> Iterator[Element]:
    for child in table:
        if child.tag == "table-row":
            yield child
        elif child.tag in ("table-rows", "table-header-rows", "table-row-group"):
            yield from _rows_of(child)


def _cell(cell: Element, reader: _Reader) -> Any:
    kind, value = cell.get("value-type"), cell.get("value")
    text = "\n".join(block for block in reader.blocks(cell)).strip()
    if kind == "float" and value is not None and text in ("", value):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    if kind == "boolean":
        return cell.get("boolean-value") == "true"
    return text
