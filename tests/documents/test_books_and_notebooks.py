"""Books with odd spines, outputs of notebooks, lists and images of OpenDocument, files without text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from office_kit import docx, only_document, reason_left_out, zipped

from rlm.documents.convert.dispatch import convert


def book(manifest: str, spine: str, chapters: dict[str, str]) -> bytes:
    package = f"<package><manifest>{manifest}</manifest><spine>{spine}</spine></package>"
    container = '<container><rootfiles><rootfile full-path="O/b.opf"/></rootfiles></container>'
    pages = {f"O/{name}": f"<html><body><p>{text}</p></body></html>" for name, text in chapters.items()}
    return zipped(
        {"mimetype": "application/epub+zip", "META-INF/container.xml": container, "O/b.opf": package, **pages}
    )


def item(key: str, href: str) -> str:
    return f'<item id="{key}" href="{href}" media-type="application/xhtml+xml"/>'


@pytest.mark.parametrize(
    ("manifest", "spine", "order"),
    [
        (item("a", "a.xhtml") + item("b", "b.xhtml"), '<itemref idref="b"/><itemref idref="a" linear="no"/>', ["beta", "alpha"]),
        (item("a", "a.xhtml") + item("b", "b.xhtml"), "", ["alpha", "beta"]),
        (item("a", "a.xhtml#top") + item("b", "b%2Exhtml"), '<itemref idref="a"/><itemref idref="b"/>', ["alpha", "beta"]),
        (item("a", "a.xhtml") + item("b", "a.xhtml"), '<itemref idref="a"/><itemref idref="b"/>', ["alpha"]),
        (item("a", "./x/../a.xhtml"), '<itemref idref="nowhere"/><itemref idref="a"/>', ["alpha"]),
    ],
)  # fmt: skip
def test_odd_spines_give_every_chapter_once(manifest: str, spine: str, order: list[str]) -> None:
    document = only_document(book(manifest, spine, {"a.xhtml": "alpha", "b.xhtml": "beta"}), "b.epub")
    assert document["text"].split() == order
    assert [label for _, label in document["places"]] == [f"chapter {at}" for at in range(1, len(order) + 1)]


def test_missing_chapters_are_named() -> None:
    spine = '<itemref idref="a"/><itemref idref="b"/>'
    result = convert(book(item("a", "a.xhtml") + item("b", "gone.xhtml"), spine, {"a.xhtml": "alpha"}), "b.epub")
    assert result["left_out"] == [["b.epub!/O/gone.xhtml", "the chapter is missing"]]


def output_text(output: dict[str, Any], metadata: dict[str, Any] | None = None) -> str:
    cell = {"cell_type": "code", "source": "x", "outputs": [output]}
    return str(only_document(json.dumps({"cells": [cell], "metadata": metadata or {}}).encode(), "n.ipynb")["text"])


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ({"data": {"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>bold</b>"}}, "bold"),
        ({"data": {"text/plain": "   a\n0  1", "text/html": "<table><tr><td>1</table>"}}, "   a\n0  1"),
        ({"data": {"text/html": ["<i>", "only</i>"]}}, "only"), ({"data": {"image/png": "iVBOR"}}, "[image/png]"),
        ({"data": {"text/plain": "<Figure object at 0x7f>", "text/markdown": "**m**"}}, "**m**"),
        ({"output_type": "stream", "text": ["\x1b[31mred\x1b[0m"]}, "red"),
        ({"output_type": "error", "ename": "ValueError", "evalue": "bad"}, "ValueError: bad"),
    ],
)  # fmt: skip
def test_outputs_show_their_most_readable_form(output: dict[str, Any], shown: str) -> None:
    assert output_text(output) == f"```python\nx\n```\nOutput:\n{shown}\n\n"


def test_code_is_marked_with_its_language() -> None:
    assert output_text({}, {"language_info": {"name": "julia"}}).startswith("```julia\n")


ODT = (
    "<o:document-content xmlns:o='o' xmlns:text='x' xmlns:draw='d' xmlns:svg='s' xmlns:table='t'><o:automatic-styles>"
    "<text:list-style style:name='L' xmlns:style='y'><text:list-level-style-number text:level='1' style:num-format='A' "
    "style:num-suffix=')'/><text:list-level-style-bullet text:level='2'/></text:list-style></o:automatic-styles>"
    "<o:body><o:text>{0}</o:text></o:body></o:document-content>"
)


def open_text(body: str) -> str:
    data = zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": ODT.replace("{0}", body)})
    return str(only_document(data, "a.odt")["text"])


def test_opendocument_lists_keep_their_numbers() -> None:
    entry = "<text:list-item><text:p>{0}</text:p>{1}</text:list-item>"
    nested = f"<text:list>{entry.format('sub', '')}</text:list>"
    body = f"<text:list text:style-name='L'>{entry.format('one', nested)}{entry.format('two', '')}</text:list>"
    body += "<text:p>break</text:p>"
    body += f"<text:list text:style-name='L' text:continue-numbering='true'>{entry.format('three', '')}</text:list>"
    assert open_text(body).splitlines()[:5] == ["A) one", "  - sub", "B) two", "break", "C) three"]


def test_opendocument_images_show_their_alternative_text() -> None:
    frame = "<draw:frame><draw:image/><svg:desc>A map of the port</svg:desc></draw:frame>"
    assert open_text(f"<text:p>see {frame} here</text:p>").strip() == "see [Image: A map of the port] here"


def test_opendocument_tables_in_cells_stay_readable() -> None:
    cell = "<table:table-cell>{0}</table:table-cell>"
    inner = f"<table:table><table:table-row>{cell.format('<text:p>x</text:p>') * 2}</table:table-row></table:table>"
    row = cell.format("<text:p>a</text:p>") + cell.format(inner)
    assert "| a | [Table: x; x] |" in open_text(f"<table:table><table:table-row>{row}</table:table-row></table:table>")


@pytest.mark.parametrize(
    ("data", "name"),
    [(docx("<w:p/>"), "a.docx"), (b"{\\rtf1{\\pict 0011}}", "a.rtf"), (b"<html><img src=x></html>", "a.html"),
     (b" \n ", "a.txt")],
)  # fmt: skip
def test_files_without_text_are_left_out(data: bytes, name: str) -> None:
    assert reason_left_out(data, name) == "no text (it can hold images)"
