"""Word documents (docx): headings, numbered lists, tables, notes, comments, text boxes, accepted changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from .numbering import Numbering
from .packages import Element, Package
from .result import Builder, Output, markdown_table

_SKIPPED = frozenset({"del", "moveFrom", "instrText", "delText", "pPr", "rPr", "sdtPr", "Fallback"})
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}


@dataclass(slots=True)
class _Styles:
    headings: dict[str, int] = field(default_factory=dict)
    lists: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Story:
    """Text outside the main flow that belongs to a paragraph: text boxes, references to notes and comments."""

    boxes: list[Element] = field(default_factory=list)


class _Reader:
    def __init__(self, package: Package, main: str, document: Builder) -> None:
        self._package = package
        self._document = document
        self._relations = package.relations(main)
        self._styles = _read_styles(self._part_of("styles"))
        self._numbering = Numbering(self._part_of("numbering"))
        self._accepted = 0

    def _part_of(self, kind: str) -> Element | None:
        name = next((target for what, target in self._relations.values() if what == kind), None)
        return None if name is None else self._package.optional_xml(name)

    def read(self, root: Element) -> None:
        body = root.find("body")
        headers, footers = self._stories("header"), self._stories("footer")
        if headers:
            self._document.line("[Header] " + " / ".join(headers) + "\n")
        for block in self._blocks(root if body is None else body):
            self._document.line(block)
        for kind, label in (("footnotes", "Footnote"), ("endnotes", "Endnote")):
            self._notes(kind, label)
        self._comments()
        if footers:
            self._document.line("\n[Footer] " + " / ".join(footers))
        if self._accepted:
            self._document.note("tracked changes are shown as accepted")

    def _stories(self, kind: str) -> list[str]:
        texts: dict[str, None] = {}
        for what, target in self._relations.values():
            if what == kind and target in self._package:
                text = " ".join(" ".join(self._blocks(self._package.xml(target))).split())
                if text:
                    texts[text] = None
        return list(texts)

    def _notes(self, kind: str, label: str) -> None:
        root = self._part_of(kind)
        for note in root if root is not None else ():
            if note.get("type") in (None, "normal"):
                text = " ".join(" ".join(self._blocks(note)).split())
                self._document.line(f"\n[{label} {note.get('id', '')}] {text}")

    def _comments(self) -> None:
        root = self._part_of("comments")
        for comment in root if root is not None else ():
            text = " ".join(" ".join(self._blocks(comment)).split())
            author = comment.get("author", "")
            self._document.line(f"\n[Comment {comment.get('id', '')}{f' by {author}' if author else ''}] {text}")

    def _blocks(self, parent: Element) -> Iterator[str]:
        for child in parent:
            if child.tag == "p":
                yield from self._paragraph(child)
            elif child.tag == "tbl":
                yield self._table(child)
            elif child.tag in (
                "sdt",
                "sdtContent",
                "ins",
                "moveTo",
                "customXml",
                "smartTag",
                "AlternateContent",
                "Choice",
            ):
                self._accepted += child.tag in ("ins", "moveTo")
                yield from self._blocks(child)

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        properties = paragraph.find("pPr")
        style = _value(properties, "pStyle")
        story = _Story()
        text = "".join(self._inline(paragraph, story)).strip(" \t")
        level = self._styles.headings.get(style, 0)
        outline = _value(properties, "outlineLvl")
        if not level and outline.isdigit() and int(outline) < 9:
            level = int(outline) + 1
        label = self._label(properties, style)
        if text or label:
            yield ("#" * min(level, 6) + " " if level else "") + label + text
        elif not story.boxes:
            yield ""
        for box in story.boxes:
            inside = "\n".join(self._blocks(box)).strip()
            if inside:
                yield f"[Text box] {inside}"

    def _label(self, properties: Element | None, style: str) -> str:
        numbers = None if properties is None else properties.find("numPr")
        list_id, depth = self._styles.lists.get(style, ("", 0))
        if numbers is not None:
            list_id = _value(numbers, "numId") or list_id
            given = _value(numbers, "ilvl")
            depth = int(given) if given.isdigit() else depth
        return self._numbering.next_label(list_id, min(depth, 8)) if list_id not in ("", "0") else ""

    def _inline(self, parent: Element, story: _Story) -> Iterator[str]:
        for child in parent:
            tag = child.tag
            if tag == "t":
                yield child.text or ""
            elif tag in _BREAKS:
                yield _BREAKS[tag]
            elif tag == "txbxContent":
                story.boxes.append(child)
            elif tag in ("footnoteReference", "endnoteReference"):
                yield f"[^{child.get('id', '')}]"
            elif tag == "commentReference":
                yield f"[Comment {child.get('id', '')}]"
            elif tag == "sym":
                yield "•"
            elif tag in ("del", "moveFrom"):
                self._accepted += 1
            elif tag == "hyperlink":
                yield self._link(child, story)
            elif tag not in _SKIPPED:
                self._accepted += tag in ("ins", "moveTo")
                yield from self._inline(child, story)

    def _link(self, link: Element, story: _Story) -> str:
        text = "".join(self._inline(link, story))
        _, target = self._relations.get(link.get("id", ""), ("", ""))
        return f"[{text}]({target})" if target.startswith(("http", "mailto:")) and target != text else text

    def _table(self, table: Element) -> str:
        rows: list[list[str]] = []
        for row in _rows_of(table):
            cells: list[str] = []
            for cell in _cells_of(row):
                properties = cell.find("tcPr")
                merge = None if properties is None else properties.find("vMerge")
                text = " ".join(" ".join(self._blocks(cell)).split())
                if (
                    merge is not None
                    and merge.get("val", "continue") == "continue"
                    and rows
                    and len(cells) < len(rows[-1])
                ):
                    text = rows[-1][len(cells)]
                span = _value(properties, "gridSpan")
                cells.extend([text] * (min(int(span), 100) if span.isdigit() else 1))
            rows.append(cells)
        width = max(map(len, rows), default=0)
        return "\n" + markdown_table([row + [""] * (width - len(row)) for row in rows]) + "\n" if width else ""


def _rows_of(table: Element) -> Iterator[Element]:
    for child in table:
        if child.tag == "tr":
            yield child
        elif child.tag in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _rows_of(child)


def _cells_of(row: Element) -> Iterator[Element]:
    for child in row:
        if child.tag == "tc":
            yield child
        elif child.tag in ("sdt", "sdtContent", "ins", "customXml"):
            yield from _cells_of(child)


def _value(parent: Element | None, tag: str) -> str:
    child = None if parent is None else parent.find(tag)
    return "" if child is None else child.get("val", "")


def _read_styles(root: Element | None) -> _Styles:
    styles, based = _Styles(), dict[str, str]()
    for style in root if root is not None else ():
        key, properties = style.get("styleId", ""), style.find("pPr")
        name = _value(style, "name").lower()
        based[key] = _value(style, "basedOn")
        outline = _value(properties, "outlineLvl")
        if name == "title":
            styles.headings[key] = 1
        elif name.startswith("heading ") and name[8:].isdigit():
            styles.headings[key] = int(name[8:])
        elif outline.isdigit() and int(outline) < 9:
            styles.headings[key] = int(outline) + 1
        numbers = None if properties is None else properties.find("numPr")
        if numbers is not None:
            depth = _value(numbers, "ilvl")
            styles.lists[key] = (_value(numbers, "numId"), int(depth) if depth.isdigit() else 0)
    for key in based:
        parent, steps = based[key], 0
        while parent and steps < 20 and key not in styles.headings:
            if parent in styles.headings:
                styles.headings[key] = styles.headings[parent]
            parent, steps = based.get(parent, ""), steps + 1
    return styles


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a docx file to ``output``."""
    package = Package(data, output)
    roots = package.relations("")
    main = next((target for what, target in roots.values() if what == "officeDocument"), "word/document.xml")
    document = Builder(path, "docx")
    _Reader(package, main, document).read(package.xml(main))
    output.add(document)
