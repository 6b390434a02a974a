"""Spreadsheets and delimited files keep what their programs show: formulas, formats, charts, odd rows."""

from __future__ import annotations

import pytest
from office_kit import only_document, relations, xlsx, zipped

from rlm.documents.convert.number_formats import make_formatter

CHART = (
    "<c:chartSpace xmlns:c='c' xmlns:a='a'><c:chart><c:title><a:t>Trend</a:t></c:title><c:plotArea><c:lineChart><c:ser>"
    "<c:cat><c:pt idx='0'><c:v>May</c:v></c:pt></c:cat><c:val><c:pt idx='0'><c:v>12</c:v></c:pt></c:val>"
    "</c:ser></c:lineChart></c:plotArea></c:chart></c:chartSpace>"
)


def sheet_text(cells: str, before: str = "", strings: str = "") -> str:
    return str(
        only_document(xlsx({"S": f"{before}<sheetData><row>{cells}</row></sheetData>"}, strings=strings), "a.xlsx")[
            "text"
        ]
    )


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("<c><f>A2*2</f></c>", "=A2*2"), ("<c><f t='shared' si='0' ref='A1:A2'>B1+1</f><v>7</v></c>", "7"),
        ("<c t='inlineStr'><is><r><t>rich </t></r><r><t>text</t></r><rPh><t>no</t></rPh></is></c>", "rich text"),
        ("<c t='s'><v>0</v></c>", "one_two"),
        ("<c t='str'><v>a_x0009_b</v></c>", "a\tb"),
        ("<c t='d'><v>2024-05-06T00:00:00</v></c>", "2024-05-06"),
        ("<c t='e'><v>#N/A</v></c>", "#N/A"), ("<c t='b'><v>0</v></c>", "FALSE"),
        ("<c><v>1e3</v></c>", "1000"), ("<c t='s'><v>9</v></c>", ""),
    ],
)  # fmt: skip
def test_cells_show_what_the_program_shows(cell: str, shown: str) -> None:
    text = sheet_text(cell + "<c t='str'><v>end</v></c>", strings="<si><t>one_x005F_two</t></si>")
    assert text == f"## S\n{shown + ',' if shown else ','}end\n\n" if shown else "end" in text


def test_formulas_without_values_are_noted() -> None:
    document = only_document(xlsx({"S": "<sheetData><row><c><f>SUM(B1:B9)</f></c></row></sheetData>"}), "a.xlsx")
    assert document["notes"] == ["sheet S: 1 formulas have no stored value; the formula is shown"]


def test_hidden_columns_are_noted() -> None:
    columns = '<cols><col min="2" max="4" hidden="1"/><col min="6" max="6"/></cols>'
    sheet = columns + '<sheetData><row><c r="A1"><v>1</v></c><c r="B1"><v>2</v></c></row></sheetData>'
    document = only_document(xlsx({"S": sheet}), "a.xlsx")
    assert document["notes"] == ["sheet S: 3 hidden columns are included"]
    assert "1,2" in document["text"]


@pytest.mark.parametrize(
    ("code", "number", "shown"),
    [
        ("[$-F800]dddd, mmmm dd, yyyy", 45292, "2024-01-01"), ("[$-409]d\\-mmm\\-yy;@", 45292, "2024-01-01"),
        ("yyyy\"年\"m\"月\"d\"日\"", 45292, "2024-01-01"), ("[Magenta]0", 5, None), ("[Red]\\-0.00%", -0.5, "-50.00%"),
        ('#,##0.00\\ "zł"', 1234.5, "1,234.50 zł"), ('"Kč" #,##0', 5, "Kč5"), ("[$R$-416] #,##0.00", 7, "R$7.00"),
        ('_-* #,##0.00\\ "€"_-;-* #,##0.00\\ "€"_-', -3, "-3.00 €"), ("[mm]:ss", 0.5, "12:00:00"), ("[>=100]0;0", 5, None),
    ],
)  # fmt: skip
def test_formats_of_many_locales(code: str, number: float, shown: str | None) -> None:
    formatter = make_formatter(code)
    assert (formatter(number) if formatter else None) == shown


def test_dates_can_count_from_1904() -> None:
    formatter = make_formatter("yyyy-mm-dd", from_1904=True)
    assert formatter is not None
    assert formatter(0) == "1904-01-01"


def test_charts_and_text_boxes_over_cells_are_read() -> None:
    drawing = (
        "<x:wsDr xmlns:x='x' xmlns:a='a' xmlns:r='r'><x:sp>"
        "<x:txBody><a:p><a:r><a:t>Estimate only</a:t></a:r></a:p></x:txBody></x:sp>"
        "<x:pic><x:cNvPr id='1' descr='Site plan'/></x:pic><c:chart xmlns:c='c' r:id='rId1'/></x:wsDr>"
    )
    data = zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations({"rId1": ("officeDocument", "xl/workbook.xml")}),
            "xl/workbook.xml": "<workbook xmlns:r='r'><sheets>"
            "<sheet name='S' r:id='rId1'/><sheet name='C' r:id='rId2'/></sheets></workbook>",
            "xl/_rels/workbook.xml.rels": relations(
                {"rId1": ("worksheet", "worksheets/s.xml"), "rId2": ("chartsheet", "chartsheets/c.xml")}
            ),
            "xl/worksheets/s.xml": "<worksheet><sheetData><row><c><v>1</v></c></row></sheetData></worksheet>",
            "xl/worksheets/_rels/s.xml.rels": relations({"rId1": ("drawing", "../drawings/d.xml")}),
            "xl/chartsheets/c.xml": "<chartsheet/>",
            "xl/chartsheets/_rels/c.xml.rels": relations({"rId1": ("drawing", "../drawings/d.xml")}),
            "xl/drawings/d.xml": drawing,
            "xl/drawings/_rels/d.xml.rels": relations({"rId1": ("chart", "../charts/c.xml")}),
            "xl/charts/c.xml": CHART,
        }
    )
    text = only_document(data, "a.xlsx")["text"]
    for wanted in ("[Text box] Estimate only", "[Image: Site plan]", "| May | 12 |", "## C (chart sheet)"):
        assert wanted in text


@pytest.mark.parametrize(
    ("data", "columns", "rows"),
    [
        ("sep=;\nKey;Text\n1;a,b\n", ["Key", "Text"], 1),
        ("\ufeffKey,Text\n1,a\n", ["Key", "Text"], 1),
        ('Key,Text\n1,"two\nlines, here"\n2,b\n', ["Key", "Text"], 2),
        ("Key,Text\n1,a\n2,b\n3,c\n4,d\n5,e\n6,f\n7,g\n8,h\n9,i,extra\n", ["Key", "Text", "C"], 9),
        ("Title of the report\n\nKey;Text\n1,5;a\n2,5;b\n", ["Key", "Text"], 2),
        ("Key\tText\r1\ta\r", ["Key", "Text"], 1),
    ],
)  # fmt: skip
def test_odd_delimited_files_become_tables(data: str, columns: list[str], rows: int) -> None:
    document = only_document(data.encode(), "a.csv")
    (table,) = document["tables"]
    assert (table["columns"], table["rows"]) == (columns, rows)


def test_rows_of_mixed_width_are_noted() -> None:
    assert "rows have between 2 and 3 cells" in only_document(b"a,b\n1,2\n1,2,3\n", "a.csv")["notes"]


ODS = (
    "<office:document-content xmlns:office='o' xmlns:table='t' xmlns:text='x'><office:body><office:spreadsheet>"
    "<table:table table:name='S'>{0}</table:table></office:spreadsheet></office:body></office:document-content>"
)


def test_merged_cells_of_opendocument_repeat_their_value() -> None:
    cell = "<table:table-cell{1}><text:p>{0}</text:p></table:table-cell>"
    covered = "<table:covered-table-cell/>"
    wide, tall = " table:number-columns-spanned='2'", " table:number-rows-spanned='2'"
    listed = (
        cell.format("wide", wide) + covered + cell.format("x", ""),
        cell.format("tall", tall) + cell.format("1", ""),
        covered + cell.format("2", ""),
    )
    rows = "".join(f"<table:table-row>{row}</table:table-row>" for row in listed)
    data = zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": ODS.format(rows)})
    assert "wide,wide,x\ntall,1\ntall,2\n" in only_document(data, "a.ods")["text"]
