"""Writes a corpus of documents with known sentences, table rows and places: ``python document_corpus.py FOLDER [--files N]``.

Runs in an environment with python-docx, openpyxl, python-pptx, reportlab, odfpy and xlwt. ``truth.json`` maps each file to
its needles (sentence, place), rows (cells, place) and, for tables, the shown values.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import random
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

WORDS = (
    "harbour contract supplier delivery penalty invoice clause annex governing liability notice amendment schedule "
    "warehouse efficient office affirm finance workflow baffle shipment premium coverage deductible tenant lease"
).split()
TYPOGRAPHY = ("Zürich", "naïve", "Ångström", "façade", "señor", "Łódź", "50 °C", "€ 75", "“quoted”", "§ 12")


@dataclass
class Truth:
    """Facts that a reader of one file should return: sentences and rows, each with its page, slide or sheet."""

    needles: list[tuple[str, str]] = field(default_factory=list)
    rows: list[tuple[list[str], str]] = field(default_factory=list)


class Draw:
    """Random content that is unique to a file."""

    def __init__(self, seed: str, truth: Truth) -> None:
        self.random = random.Random(seed)
        self.truth = truth
        self.count = 0

    def sentence(self, place: str = "", *, latin: bool = False) -> str:
        self.count += 1
        words = self.random.choices(WORDS, k=9)
        if not latin:
            words[4] = self.random.choice(TYPOGRAPHY)
        text = f"Item {self.random.randrange(10**6, 10**7)} of the {' '.join(words)} is due."
        self.truth.needles.append((text, place))
        return text

    def rows(self, place: str = "", count: int = 6) -> list[list[str]]:
        rows = [
            [
                f"R{self.random.randrange(10**5, 10**6)}",
                self.random.choice(WORDS).title(),
                str(self.random.randrange(10, 9999)),
            ]
            for _ in range(count)
        ]
        self.truth.rows.extend((row, place) for row in rows)
        return [["Key", "Name", "Amount"], *rows]


def write_pdf(draw: Draw) -> bytes:
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import (
        BaseDocTemplate,
        Frame,
        NextPageTemplate,
        PageBreak,
        PageTemplate,
        Paragraph,
        Spacer,
        Table,
        TableStyle,
    )

    body = getSampleStyleSheet()["BodyText"]
    buffer = io.BytesIO()

    def furniture(canvas: object, document: object) -> None:
        canvas.drawString(72, 810, "ACME Harbour Report 2024")  # type: ignore[attr-defined]
        canvas.drawString(280, 30, f"Page {document.page} of 6")  # type: ignore[attr-defined]

    width, height = A4
    one = Frame(72, 60, width - 144, height - 140, id="one")
    two = [Frame(60, 60, 225, height - 140, id="left"), Frame(310, 60, 225, height - 140, id="right")]
    template = BaseDocTemplate(buffer, pagesize=A4)
    template.addPageTemplates(
        [
            PageTemplate(id="One", frames=[one], onPage=furniture),
            PageTemplate(id="Two", frames=two, onPage=furniture),
        ]
    )
    story: list[object] = []
    for page in range(1, 7):
        columns = page in (2, 4)
        story += [
            Paragraph(draw.sentence(f"p. {page}", latin=True) + " " + " ".join(draw.random.choices(WORDS, k=40)), body)
            for _ in range(9 if columns else 5)
        ]
        key = str(draw.random.randrange(10**6, 10**7))
        story.append(Paragraph(f"The amend-<br/>ment {key} on multi-<br/>lingual notices holds.", body))
        draw.truth.needles.append((f"The amendment {key} on multilingual notices holds.", f"p. {page}"))
        if page in (3, 5):
            lines = [("GRID", (0, 0), (-1, -1), 0.5, "black")] if page == 3 else []
            story += [Spacer(1, 12), Table(draw.rows(f"p. {page}"), style=TableStyle(lines), colWidths=120)]
        if page < 6:
            story += [NextPageTemplate("Two" if page + 1 in (2, 4) else "One"), PageBreak()]
    template.build(story)
    return buffer.getvalue()


def write_docx(draw: Draw) -> bytes:
    import docx

    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = draw.sentence()
    document.sections[0].footer.paragraphs[0].text = draw.sentence()
    document.add_heading("Report", 1)
    for _ in range(10):
        document.add_paragraph(draw.sentence())
        document.add_paragraph(draw.sentence(), style="List Number")
    rows = draw.rows()
    table = document.add_table(len(rows), 3)
    for row, cells in zip(table.rows, rows, strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    inner = document.add_table(1, 2)
    inner.cell(0, 0).text = draw.sentence()
    nested = inner.cell(0, 1).add_table(1, 2)
    nested.cell(0, 0).text = draw.sentence()
    document.add_comment(document.paragraphs[2].runs[0], text=draw.sentence(), author="Eve")
    return _saved(document)


def write_xlsx(draw: Draw) -> bytes:
    import openpyxl

    workbook = openpyxl.Workbook()
    for number in range(1, 4):
        sheet = workbook.active if number == 1 else workbook.create_sheet()
        sheet.title = f"Quarter {number}"
        sheet.append([draw.sentence(sheet.title)])
        for row in draw.rows(sheet.title, 20):
            sheet.append([int(cell) if cell.isdigit() else cell for cell in row])
        day = datetime.date(2024, number, 17)
        key = f"D{draw.random.randrange(10**5, 10**6)}"
        sheet.append([key, day, number / 8, 1234.5 * number])
        filled = sheet.max_row
        sheet.cell(filled, 3).number_format = "0.0%"
        sheet.cell(filled, 4).number_format = '"$"#,##0.00'
        draw.truth.rows.append(([key, day.isoformat(), f"{number / 8:.1%}", f"${1234.5 * number:,.2f}"], sheet.title))
    return _saved(workbook)


def write_xls(draw: Draw) -> bytes:
    import xlwt

    workbook = xlwt.Workbook()
    for number in range(1, 3):
        sheet = workbook.add_sheet(f"Quarter {number}")
        sheet.write(0, 0, draw.sentence(f"Quarter {number}"))
        for at, row in enumerate(draw.rows(f"Quarter {number}", 20), 1):
            for column, cell in enumerate(row):
                sheet.write(at, column, int(cell) if cell.isdigit() else cell)
        key = f"D{draw.random.randrange(10**5, 10**6)}"
        sheet.write(30, 0, key)
        sheet.write(30, 1, datetime.date(2024, number, 17), xlwt.easyxf(num_format_str="DD/MM/YYYY"))
        draw.truth.rows.append(([key, f"2024-{number:02d}-17"], f"Quarter {number}"))
    return _saved(workbook)


def write_pptx(draw: Draw) -> bytes:
    import pptx
    from pptx.chart.data import CategoryChartData
    from pptx.enum.chart import XL_CHART_TYPE
    from pptx.util import Inches

    deck = pptx.Presentation()
    for number in range(1, 7):
        place = f"slide {number}"
        slide = deck.slides.add_slide(deck.slide_layouts[1])
        slide.shapes.title.text = draw.sentence(place)
        slide.placeholders[1].text = "\n".join(draw.sentence(place) for _ in range(3))
        slide.notes_slide.notes_text_frame.text = draw.sentence(place)
        group = slide.shapes.add_group_shape()
        box = group.shapes.add_textbox(Inches(1), Inches(5), Inches(4), Inches(1))
        box.text_frame.text = draw.sentence(place)
        if number == 2:
            rows = draw.rows(place)
            table = slide.shapes.add_table(len(rows), 3, Inches(1), Inches(3), Inches(6), Inches(2)).table
            for at, row in enumerate(rows):
                for column, cell in enumerate(row):
                    table.cell(at, column).text = cell
        if number == 4:
            chart = CategoryChartData()
            rows = draw.rows(place, 3)
            chart.categories = [row[0] for row in rows[1:]]
            chart.add_series("Amount", [int(row[2]) for row in rows[1:]])
            draw.truth.rows[-3:] = [([row[0], row[2]], place) for row in rows[1:]]
            slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(3), Inches(5), Inches(3), chart)
    return _saved(deck)


def write_odt(draw: Draw) -> bytes:
    from odf import table, text
    from odf.opendocument import OpenDocumentText

    document = OpenDocumentText()
    document.text.addElement(text.H(outlinelevel=1, text="Report"))
    for _ in range(15):
        document.text.addElement(text.P(text=draw.sentence()))
    document.text.addElement(_odf_table(table, text, draw.rows(), "T"))
    items = text.List()
    for _ in range(3):
        item = text.ListItem()
        item.addElement(text.P(text=draw.sentence()))
        items.addElement(item)
    document.text.addElement(items)
    return _saved(document)


def write_ods(draw: Draw) -> bytes:
    from odf import table, text
    from odf.opendocument import OpenDocumentSpreadsheet

    document = OpenDocumentSpreadsheet()
    for name in ("North", "South"):
        rows = [[draw.sentence(name)], *draw.rows(name, 20)]
        document.spreadsheet.addElement(_odf_table(table, text, rows, name))
    return _saved(document)


def _odf_table(table: object, text: object, rows: list[list[str]], name: str) -> object:
    sheet = table.Table(name=name)  # type: ignore[attr-defined]
    for row in rows:
        line = table.TableRow()  # type: ignore[attr-defined]
        for cell in row:
            box = table.TableCell(valuetype="string")  # type: ignore[attr-defined]
            box.addElement(text.P(text=cell))  # type: ignore[attr-defined]
            line.addElement(box)
        sheet.addElement(line)
    return sheet


def _html_table(rows: list[list[str]]) -> str:
    return (
        "<table>" + "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows) + "</table>"
    )


def _page(draw: Draw, place: str = "") -> str:
    paragraphs = "".join(f"<p>{draw.sentence(place)}</p>" for _ in range(8))
    items = "".join(f"<li>{draw.sentence(place)}</li>" for _ in range(3))
    terms = f"<dl><dt>Term</dt><dd>{draw.sentence(place)}</dd></dl>"
    terms += f"<details><summary>More</summary>{draw.sentence(place)}</details>"
    return (
        "<html><head><title>Report</title><style>p{color:red}</style></head><body><nav><a href='/a'>Home</a></nav>"
        f"<h1>Report</h1>{paragraphs}<ol>{items}</ol>{terms}{_html_table(draw.rows(place))}"
        "<script>var hidden = 1;</script></body></html>"
    )


def write_html(draw: Draw) -> bytes:
    return _page(draw).encode()


def write_epub(draw: Draw) -> bytes:
    names = [f"c{number}" for number in range(1, 4)]
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in names)
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    parts = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        '<rootfile full-path="OEBPS/b.opf" media-type="application/oebps-package+xml"/></rootfiles></container>',
        "OEBPS/b.opf": '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Book</dc:title></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>",
        **{
            f"OEBPS/{name}.xhtml": '<?xml version="1.0" encoding="utf-8"?>'
            + _page(draw, f"chapter {at}").replace("<html>", '<html xmlns="http://www.w3.org/1999/xhtml">')
            for at, name in enumerate(names, 1)
        },
    }
    return _zipped({name: content.encode() for name, content in parts.items()})


def write_csv(draw: Draw) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=";")
    rows = draw.rows(count=50)
    writer.writerows([*row, draw.sentence() if at else "Text"] for at, row in enumerate(rows))
    return buffer.getvalue().encode("utf-8-sig")


def _message(draw: Draw) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "Jürgen Müller <j@example.org>", "team@example.org"
    message["Subject"] = draw.sentence()
    message["Date"] = "Tue, 05 Mar 2024 10:00:00 +0000"
    message.set_content("\n\n".join(draw.sentence() for _ in range(5)), cte="quoted-printable")
    table = io.StringIO()
    csv.writer(table).writerows(draw.rows())
    message.add_attachment(table.getvalue().encode(), maintype="text", subtype="csv", filename="figures.csv")
    return message


def write_eml(draw: Draw) -> bytes:
    return _message(draw).as_bytes()


def write_mbox(draw: Draw) -> bytes:
    start = b"From sender@example.org Tue Mar  5 10:00:00 2024\n"
    return b"".join(start + _message(draw).as_bytes() + b"\n\n" for _ in range(3))


def write_ipynb(draw: Draw) -> bytes:
    cells = []
    for number in range(1, 6):
        output = {"output_type": "stream", "name": "stdout", "text": [draw.sentence(f"cell {2 * number}")]}
        cells.append({"cell_type": "markdown", "metadata": {}, "source": [draw.sentence(f"cell {2 * number - 1}")]})
        cells.append(
            {
                "cell_type": "code",
                "metadata": {},
                "source": ["print(x)"],
                "outputs": [output],
                "execution_count": number,
            }
        )
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def write_rtf(draw: Draw) -> bytes:
    def escaped(text: str) -> str:
        return "".join(sign if ord(sign) < 128 else f"\\u{ord(sign)}?" for sign in text)

    paragraphs = "".join(f"{escaped(draw.sentence())}\\par\n" for _ in range(12))
    rows = "".join(
        r"\trowd\cellx2000\cellx4000\cellx6000 " + "".join(f"{cell}\\cell " for cell in row) + "\\row\n"
        for row in draw.rows()
    )
    return f"{{\\rtf1\\ansi\\ansicpg1252 {paragraphs}{rows}}}".encode("ascii")


def write_json(draw: Draw) -> bytes:
    return json.dumps({"notes": [draw.sentence() for _ in range(20)]}, ensure_ascii=False).encode()


def write_md(draw: Draw) -> bytes:
    table = "\n".join("| " + " | ".join(row) + " |" for row in draw.rows())
    return ("# Report\n\n" + "\n\n".join(draw.sentence() for _ in range(15)) + "\n\n" + table + "\n").encode()


def write_txt(draw: Draw) -> bytes:
    return "\r\n".join(draw.sentence(latin=True) + " Größe, Übermaß, façade" for _ in range(30)).encode("cp1252")


def write_sqlite(draw: Draw) -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE figures (k TEXT, name TEXT, amount INTEGER)")
    connection.executemany("INSERT INTO figures VALUES (?, ?, ?)", draw.rows(count=20)[1:])
    return connection.serialize()


def write_zip(draw: Draw) -> bytes:
    return _zipped({"a/page.html": _page(draw).encode(), "b.md": write_md(draw), "c.csv": write_csv(draw)})


def _zipped(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return buffer.getvalue()


def _saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


WRITERS: dict[str, Callable[[Draw], bytes]] = {
    "pdf": write_pdf, "docx": write_docx, "xlsx": write_xlsx, "xls": write_xls, "pptx": write_pptx, "odt": write_odt,
    "ods": write_ods, "html": write_html, "epub": write_epub, "csv": write_csv, "eml": write_eml, "mbox": write_mbox,
    "ipynb": write_ipynb, "rtf": write_rtf, "json": write_json, "md": write_md, "txt": write_txt, "sqlite": write_sqlite,
    "zip": write_zip,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=8, help="of each format")
    options = parser.parse_args()
    truths: dict[str, dict[str, object]] = {}
    for kind, write in WRITERS.items():
        (options.folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(options.files):
            truth = Truth()
            name = f"{kind}/{number:03d}.{kind}"
            (options.folder / name).write_bytes(write(Draw(name, truth)))
            truths[name] = {"needles": truth.needles, "rows": truth.rows}
    (options.folder / "truth.json").write_text(json.dumps(truths))


if __name__ == "__main__":
    main()
