"""Word documents (docx): headings, numbered lists, tables, notes, comments, text boxes, accepted changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .drawings import drawing_blocks, image_text
from .encodings import decode
from .equations import equation_text
from .html import page_text
from .numbering import Numbering
from .packages import Element, Package, parse_xml
from .result import Builder, Output, flat_table, markdown_table
from .symbols import symbol, without_private_use

_SKIPPED = frozenset({"del", "moveFrom", "instrText", "delText", "pPr", "rPr", "sdtPr", "Fallback"})
_MARKS = frozenset(
    {"footnoteReference", "endnoteReference", "commentReference", "sym", "oMath", "oMathPara", "fldChar"}
)
_BREAKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": ""}


@dataclass(slots=True)
class _Styles:
    headings: dict[str, int] = field(default_factory=dict)
    lists: dict[str, tuple[str, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Story:
    """Text outside the main flow that belongs to a paragraph: text boxes, references to notes and comments."""

    boxes: list[Element] = field(default_factory=list)
    drawings: list[str] = field(default_factory=list)


class _Reader:
    def __init__(self, package: Package, main: str, document: Builder) -> None:
        self._package = package
        self._document = document
        self._relations = package.relations(main)
        self._styles = _read_styles(self._style_part())
        self._numbering = Numbering(self._part_of("numbering"))
        self._accepted = 0
        self._hidden = 0
        self._held = ""  # text of paragraphs whose end was deleted: it belongs to the next one
        self._fields: list[bool] = []  # open fields, innermost last: True inside the instruction

    def _part_of(self, kind: str) -> Element | None:
        name = next((target for what, target in self._relations.values() if what == kind), None)
        return None if name is None else self._package.optional_xml(name)

    def _style_part(self) -> Element | None:
        """Styles without the parts that say nothing about the text, which are most of it."""
        name = next((target for what, target in self._relations.values() if what == "styles"), "")
        if name not in self._package:
            return None
        return parse_xml(_without(_without(self._package.read(name), b"tblStylePr"), b"latentStyles"), name)

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
        if self._hidden:
            self._document.note("hidden text is included")

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

    def _blocks(self, parent: Iterable[Element]) -> Iterator[str]:
        for child in parent:
            if child.tag == "p":
                yield from self._paragraph(child)
            elif child.tag == "tbl":
                yield from self._table(child)
            elif child.tag == "altChunk":
                yield self._chunk(child)
            elif child.tag == "oMathPara":
                yield equation_text(child)
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
        if self._held:
            held, self._held = self._held, ""
            yield held

    def _paragraph(self, paragraph: Element) -> Iterator[str]:
        properties = paragraph.find("pPr")
        style = _value(properties, "pStyle")
        story = _Story()
        self._fields = [instruction for instruction in self._fields if not instruction]
        text = self._held + "".join(self._inline(paragraph, story))
        self._held = ""
        if properties is not None and properties.find("rPr/del") is not None and not story.boxes and not story.drawings:
            self._accepted += 1
            self._held = text
            return
        text = text.strip(" \t")
        level = self._styles.headings.get(style, 0)
        outline = _value(properties, "outlineLvl")
        if not level and outline.isdigit() and int(outline) < 9:
            level = int(outline) + 1
        label = self._label(properties, style)
        if text or label:
            yield ("#" * min(level, 6) + " " if level else "") + label + text
        elif not story.boxes and not story.drawings:
            yield ""
        yield from story.drawings
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
                if not any(self._fields):
                    yield without_private_use(child.text or "")
            elif tag in _BREAKS:
                yield _BREAKS[tag]
            elif tag in _MARKS:
                yield from self._mark(child)
            elif tag in ("drawing", "pict", "object"):
                yield from self._drawing(child, story)
            elif tag == "txbxContent":
                story.boxes.append(child)
            elif tag in ("del", "moveFrom"):
                self._accepted += 1
            elif tag == "hyperlink":
                yield self._link(child, story)
            elif tag not in _SKIPPED:
                self._accepted += tag in ("ins", "moveTo")
                self._hidden += tag == "r" and child.find("rPr/vanish") is not None and child.find("t") is not None
                yield from self._inline(child, story)

    def _mark(self, mark: Element) -> Iterator[str]:
        match mark.tag:
            case "footnoteReference" | "endnoteReference":
                yield f"[^{mark.get('id', '')}]"
            case "commentReference":
                yield f"[Comment {mark.get('id', '')}]"
            case "sym":
                yield symbol(mark.get("char", ""), mark.get("font", ""))
            case "oMath" | "oMathPara":
                yield equation_text(mark)
            case _:
                yield from self._field(mark)

    def _field(self, mark: Element) -> Iterator[str]:
        """Follows the state of a field: its instruction is not shown, its result is. Form check boxes are shown."""
        kind = mark.get("fldCharType")
        if kind == "begin":
            self._fields.append(True)
            box = mark.find("ffData/checkBox")
            if box is not None:
                checked = box.find("checked") if box.find("checked") is not None else box.find("default")
                yield "☒ " if checked is not None and checked.get("val", "1") not in ("0", "false") else "☐ "
        elif kind == "separate" and self._fields:
            self._fields[-1] = False
        elif kind == "end" and self._fields:
            self._fields.pop()

    def _drawing(self, drawing: Element, story: _Story) -> Iterator[str]:
        texts = [image_text(item) for item in drawing.iter("docPr")]
        texts += [f"[Image: {item.get('alt', '')}]" for item in drawing.iter("shape") if item.get("alt")]
        yield from dict.fromkeys(filter(None, texts))
        story.drawings.extend(drawing_blocks(self._package, drawing, self._relations))
        yield from self._inline(drawing, story)

    def _chunk(self, chunk: Element) -> str:
        """An embedded page or text, which Word shows as a part of the document."""
        _, target = self._relations.get(chunk.get("id", ""), ("", ""))
        if target not in self._package or not target.lower().endswith((".html", ".htm", ".xhtml", ".txt")):
            self._document.note(f"an embedded part is not read: {target}")
            return ""
        text = decode(self._package.read(target))
        return text if target.lower().endswith(".txt") else page_text(text)[0]

    def _link(self, link: Element, story: _Story) -> str:
        text = "".join(self._inline(link, story))
        _, target = self._relations.get(link.get("id", ""), ("", ""))
        return f"[{text}]({target})" if target.startswith(("http", "mailto:")) and target != text else text

    def _table(self, table: Element) -> Iterator[str]:
        """A Markdown table, or the blocks inside a table that has only one cell."""
        only = _only_cell(table)
        if only is not None:
            yield from self._blocks(only)
            return
        rows = self._table_rows(table)
        width = max(map(len, rows), default=0)
        if width:
            yield "\n" + markdown_table([row + [""] * (width - len(row)) for row in rows]) + "\n"

    def _table_rows(self, table: Element) -> list[list[str]]:
        rows: list[list[str]] = []
        for row in _rows_of(table):
            cells = [""] * min(_number(row.find("trPr"), "gridBefore", 0), 100)
            for cell in _cells_of(row):
                properties = cell.find("tcPr")
                merge = None if properties is None else properties.find("vMerge")
                continues = merge is not None and merge.get("val", "continue") == "continue"
                repeats = continues and rows and len(cells) < len(rows[-1])
                text = rows[-1][len(cells)] if repeats else self._cell(cell)
                cells.extend([text] * min(_number(properties, "gridSpan", 1), 100))
            rows.append(cells)
        return rows

    def _cell(self, cell: Element) -> str:
        """Text of a cell on one line. A table inside it shows its rows between slashes."""
        parts = []
        for child in _content_of(cell):
            if child.tag == "tbl":
                parts.append(flat_table(self._table_rows(child)))
            else:
                parts.extend(self._blocks([child]))
        return " ".join(" ".join(parts).split())


def _only_cell(table: Element) -> Element | None:
    rows = list(_rows_of(table))
    cells = list(_cells_of(rows[0])) if len(rows) == 1 else []
    return cells[0] if len(cells) == 1 else None


def _content_of(cell: Element) -> Iterator[Element]:
    for child in cell:
        if child.tag in ("sdt", "sdtContent", "customXml"):
            yield from _content_of(child)
        else:
            yield child


def _without(data: bytes, tag: bytes) -> bytes:
    """XML without the elements of a name, if all of them are closed."""
    first, *rest = data.split(b"<w:" + tag)
    end = b"</w:" + tag + b">"
    kept = [first]
    for piece in rest:
        opened, closed = piece.find(b">"), piece.find(end)
        if opened < 0 or (closed < 0 and piece[opened - 1 : opened] != b"/"):
            return data
        kept.append(piece[opened + 1 :] if piece[opened - 1 : opened] == b"/" else piece[closed + len(end) :])
    return b"".join(kept)


def _rows_of(table: Element) -> Iterator[Element]:
    for child in table:
        if child.tag == "tr":
            if child.find("trPr/del") is None:  # a deleted row
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


def _number(parent: Element | None, tag: str, default: int) -> int:
    text = _value(parent, tag)
    return int(text) if text.isdigit() and len(text) < 6 else default


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
