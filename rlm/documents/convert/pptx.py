"""PowerPoint presentations (pptx): slides in order with titles, text, tables, charts' text and speaker notes."""

from __future__ import annotations

from collections.abc import Iterator

from .drawings import drawing_blocks, image_text
from .equations import equation_text
from .packages import Element, Package
from .result import Builder, Output, markdown_table
from .symbols import without_private_use

_TITLES = frozenset({"title", "ctrTitle"})
_UNREAD = frozenset({"sldNum", "dt", "ftr"})


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a pptx file to ``output``; every slide is a place."""
    package = Package(data, output)
    main = next(
        (target for what, target in package.relations("").values() if what == "officeDocument"), "ppt/presentation.xml"
    )
    relations = package.relations(main)
    root = package.xml(main)
    document = Builder(path, "pptx")
    slides = root.find("sldIdLst")
    count = hidden = 0
    for item in slides if slides is not None else ():
        _, target = relations.get(_relation_id(item), ("", ""))
        if target not in package:
            continue
        count += 1
        slide = package.xml(target)
        hidden += slide.get("show") == "0"
        document.place(f"slide {count}")
        document.line(f"<!-- slide {count}{' (hidden)' if slide.get('show') == '0' else ''} -->")
        _read_slide(package, target, slide, document)
    document.pages = count
    if hidden:
        document.note(f"{hidden} hidden slides are included and marked")
    output.add(document)


def _relation_id(item: Element) -> str:
    """Both ``id`` and ``r:id`` have the local name "id"; the relationship's begins with "rId" or is the last one given."""
    return item.get("id", "")


def _read_slide(package: Package, name: str, slide: Element, document: Builder) -> None:
    relations = package.relations(name)
    for block in _shapes(slide, relations, package):
        document.line(block)
    for what, target in relations.values():
        if what == "notesSlide" and target in package:
            notes = "\n".join(_shapes(package.xml(target), {}, package, notes=True)).strip()
            if notes:
                document.line(f"\n[Speaker notes] {notes}")
        elif what == "comments" and target in package:
            for comment in package.xml(target):
                text = " ".join("".join(comment.itertext()).split())
                if text:
                    document.line(f"[Comment] {text}")
    document.line()


def _shapes(
    parent: Element, relations: dict[str, tuple[str, str]], package: Package, *, notes: bool = False
) -> Iterator[str]:
    for child in parent:
        if child.tag == "sp":
            yield from _shape(child, relations, notes=notes)
        elif child.tag == "tbl":
            yield _table(child, relations)
        elif child.tag == "pic":
            described = image_text(child.find("nvPicPr/cNvPr"))
            if described:
                yield described
        elif child.tag == "graphicData":
            yield from drawing_blocks(package, child, relations)
            yield from _shapes(child, relations, package, notes=notes)
        elif child.tag != "Fallback":
            yield from _shapes(child, relations, package, notes=notes)


def _shape(shape: Element, relations: dict[str, tuple[str, str]], *, notes: bool) -> Iterator[str]:
    placeholder = shape.find("nvSpPr/nvPr/ph")
    kind = "" if placeholder is None else placeholder.get("type", "body")
    if kind in _UNREAD or (notes and kind != "body"):
        return
    body = shape.find("txBody")
    if body is None:
        return
    for paragraph in body.findall("p"):
        text = _text(paragraph, relations)
        if not text.strip():
            continue
        if kind in _TITLES:
            yield "# " + " ".join(text.split())
            continue
        properties = paragraph.find("pPr")
        given = "0" if properties is None else properties.get("lvl", "0")
        level = min(int(given), 8) if given.isdigit() else 0
        bulleted = kind == "body" and not notes and (properties is None or properties.find("buNone") is None)
        yield "  " * level + ("- " if bulleted else "") + text.strip()


def _text(paragraph: Element, relations: dict[str, tuple[str, str]]) -> str:
    parts = []
    for run in paragraph:
        if run.tag == "br":
            parts.append("\n")
        elif run.tag in ("AlternateContent", "Choice", "m"):
            parts.append(equation_text(run) if run.tag == "m" else _text(run, relations))
        elif run.tag in ("r", "fld"):
            text = "".join(item.text or "" for item in run.findall("t"))
            link = run.find("rPr/hlinkClick")
            _, target = ("", "") if link is None else relations.get(link.get("id", ""), ("", ""))
            parts.append(f"[{text}]({target})" if target.startswith(("http", "mailto:")) and target != text else text)
    return without_private_use("".join(parts))


def _table(table: Element, relations: dict[str, tuple[str, str]]) -> str:
    rows: list[list[str]] = []
    for row in table.findall("tr"):
        cells: list[str] = []
        for cell in row.findall("tc"):
            body = cell.find("txBody")
            text = " ".join(_text(item, relations) for item in body.findall("p")) if body is not None else ""
            if cell.get("hMerge") in ("1", "true") and cells:
                text = cells[-1]
            elif cell.get("vMerge") in ("1", "true") and rows and len(cells) < len(rows[-1]):
                text = rows[-1][len(cells)]
            cells.append(text)
        rows.append(cells)
    return "\n" + markdown_table(rows) + "\n"
