"""PDF and Office files with known content, written by the packages that people write such files with."""

from __future__ import annotations

import datetime
import io

from document_draw import WORDS, Draw


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


def _saved(document: object) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()
