"""OpenDocument files: text (odt), presentations (odp) and spreadsheets (ods)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .packages import Element, Package, text_of
from .result import Builder, ConversionError, Output, markdown_table
from .tables import write_table

_MAX_REPEATS = 1_000


def convert(data: bytes, path: str, output: Output, kind: str) -> None:
    """Adds the document of an odt, odp or ods file to ``output``."""
    package = Package(data, output)
    if "META-INF/manifest.xml" in package and b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise ConversionError("encrypted with a password")
    root = package.xml("content.xml")
    document = Builder(path, kind)
    body = root.find("body")
    reader = _Reader(document, output)
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


class _Reader:
    def __init__(self, document: Builder, output: Output) -> None:
        self._document = document
        self._output = output
        self._notes: list[str] = []

    def write_notes(self) -> None:
        for note in self._notes:
            self._document.line("\n" + note)
        self._notes.clear()

    def blocks(self, parent: Element, depth: int = 0) -> Iterator[str]:
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
                rows = [[str(cell) for cell in row] for row in self.rows(child)]
                yield "\n" + markdown_table(rows) + "\n" if rows else ""
            elif tag in ("tracked-changes", "sequence-decls", "forms", "annotation"):
                continue
            else:
                yield from self.blocks(child, depth)

    def _list(self, parent: Element, depth: int) -> Iterator[str]:
        number = 0
        for item in parent:
            if item.tag not in ("list-item", "list-header"):
                continue
            number += 1
            for position, block in enumerate(self.blocks(item, depth + 1)):
                yield ("  " * depth + "- " if position == 0 and not block.startswith("  ") else "") + block

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
            rows = list(self.rows(sheet))
            while rows and not any(cell not in (None, "") for cell in rows[-1]):
                rows.pop()
            write_sheet(self._document, name, rows)

    def rows(self, table: Element) -> Iterator[list[Any]]:
        count = 0
        for row in table.iter("table-row"):
            cells: list[Any] = []
            for cell in row:
                if cell.tag in ("table-cell", "covered-table-cell"):
                    repeat = cell.get("number-columns-repeated", "1")
                    times = min(int(repeat) if repeat.isdigit() else 1, _MAX_REPEATS)
                    cells.extend([_cell(cell, self)] * times)
            while cells and cells[-1] in (None, ""):
                cells.pop()
            repeat = row.get("number-rows-repeated", "1")
            times = int(repeat) if repeat.isdigit() and cells else 1
            for _ in range(min(times, _MAX_REPEATS)):
                count += 1
                if count > self._output.limits.rows:
                    self._document.note(f"only the first {self._output.limits.rows:,} rows are read")
                    return
                yield cells


def _cell(cell: Element, reader: _Reader) -> Any:
    kind, value = cell.get("value-type"), cell.get("value")
    text = "\n".join(block for block in reader.blocks(cell)).strip()
    if kind == "float" and value is not None and text in ("", value):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    if kind == "boolean":
        return cell.get("boolean-value") == "true"
    return text


def write_sheet(document: Builder, name: str, rows: list[list[Any]], marks: str = "") -> None:
    """Writes one sheet as a place and as a table."""
    document.place(f"sheet {name}")
    document.line(f"## {name}{marks}")
    write_table(document, name, rows, f"sheet {name}")
    document.line()
