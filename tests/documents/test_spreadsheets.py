"""Spreadsheets keep types, shown formats, merged and hidden cells, and become tables."""

from __future__ import annotations

import pytest
from office_kit import only_document, reason_left_out, xlsx, zipped

from rlm.core.cells import Quote
from rlm.core.corpus import Corpus
from rlm.documents.convert.number_formats import make_formatter
from rlm.documents.convert.result import Limits
from rlm.documents.convert.tables import column_letter, column_type, find_header
from rlm.documents.values import Documents, document_from

STYLES = (
    '<numFmts><numFmt numFmtId="164" formatCode="[$€-407]#,##0.00"/><numFmt numFmtId="165" formatCode="dd/mm/yyyy"/></numFmts>'
    '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="10"/></cellXfs>'
)


def rows(*cells: str) -> str:
    return "<sheetData>" + "".join(f"<row>{row}</row>" for row in cells) + "</sheetData>"


def test_values_are_shown_with_their_formats() -> None:
    data = xlsx(
        {"Prices": rows(
            '<c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c><c r="C1" t="s"><v>2</v></c>',
            '<c r="A2" s="1"><v>1234.5</v></c><c r="B2" s="2"><v>45292</v></c><c r="C2" s="3"><v>0.125</v></c>',
        )},
        strings="<si><t>Price</t></si><si><r><t>Da</t></r><r><t>te</t></r></si><si><t>Share</t><rPh><t>x</t></rPh></si>",
        styles=STYLES,
    )  # fmt: skip
    document = only_document(data, "p.xlsx")
    assert 'Price,Date,Share\n"€1,234.50",2024-01-01,12.50%\n' in document["text"]
    (table,) = document["tables"]
    assert (table["columns"], table["types"]) == (["Price", "Date", "Share"], ["money", "text", "percent"])


def test_formula_values_booleans_and_errors_are_kept() -> None:
    sheet = rows('<c r="A1"><f>1+1</f><v>2</v></c><c r="B1" t="b"><v>1</v></c><c r="C1" t="e"><v>#DIV/0!</v></c>')
    assert "2,TRUE,#DIV/0!\n" in only_document(xlsx({"S": sheet}), "p.xlsx")["text"]


def test_merged_ranges_repeat_the_value() -> None:
    sheet = (
        rows('<c r="A1"><v>5</v></c>', '<c r="C2"><v>6</v></c>') + '<mergeCells><mergeCell ref="A1:B2"/></mergeCells>'
    )
    document = only_document(xlsx({"S": sheet}), "p.xlsx")
    assert "5,5\n5,5,6\n" in document["text"]
    assert "1 merged ranges" in document["notes"][0]


def test_hidden_sheets_and_rows_are_marked() -> None:
    hidden = '<sheetData><row r="1" hidden="1"><c r="A1"><v>1</v></c></row></sheetData>'
    document = only_document(xlsx({"Secret": hidden}, states={"Secret": "hidden"}), "p.xlsx")
    assert "## Secret (hidden sheet)" in document["text"]
    assert {"sheet Secret is hidden; its rows are included", "sheet Secret: 1 hidden rows are included"} == set(
        document["notes"]
    )


def test_far_away_cells_make_few_rows() -> None:
    sheet = '<sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData>'
    text = only_document(xlsx({"S": sheet}), "p.xlsx")["text"]
    assert len(text) < 50_000
    assert text.rstrip().endswith(",2")


def test_rows_beyond_the_limit_are_noted() -> None:
    sheet = rows(*(f'<c r="A{n}"><v>{n}</v></c>' for n in range(1, 60)))
    document = only_document(xlsx({"S": sheet}), "p.xlsx", Limits(rows=10))
    assert "sheet S: only the first 10 rows are read" in document["notes"]


def test_places_name_sheet_and_row() -> None:
    sheet = rows(*(f'<c r="A{n}"><v>{n}</v></c>' for n in range(1, 251)))
    labels = [label for _, label in only_document(xlsx({"S": sheet}), "p.xlsx")["places"]]
    assert labels == ["sheet S", "sheet S, row 1", "sheet S, row 101", "sheet S, row 201", "sheet S"]


def test_workbook_without_parts_is_reported() -> None:
    data = zipped({"[Content_Types].xml": "<Types/>", "xl/styles.xml": "<a/>"})
    assert "xl/workbook.xml is missing" in reason_left_out(data, "p.xlsx")


@pytest.mark.parametrize(
    ("code", "number", "shown"),
    [
        ("0%", 0.5, "50%"), ("0.0%", -0.123, "-12.3%"), ("$#,##0.00", -1234.5, "-$1,234.50"), ("#,##0.00 [$€-1]", 2.5, "2.50 €"),
        ("m/d/yyyy", 1, "1900-01-01"), ("yyyy-mm-dd h:mm", 45292.5, "2024-01-01 12:00"), ("[h]:mm", 1.5, "36:00:00"),
        ("h:mm:ss", 0.25, "06:00:00"), ('"Total: "0', 5, None), ("General", 5, None), ("@", 5, None),
    ],
)  # fmt: skip
def test_number_formats(code: str, number: float, shown: str | None) -> None:
    formatter = make_formatter(code)
    assert (formatter(number) if formatter else None) == shown


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", ""], "integer"), (["1.5", "2"], "real"), (["1,000", "2"], "real"), (["€1.50", "€2.00"], "money"),
        (["1,5", "2,25"], "decimal comma"), (["12 %", "3%"], "percent"), (["007", "1"], "text"), (["a", "1"], "text"),
        ([], "text"),
    ],
)  # fmt: skip
def test_column_types(cells: list[str], kind: str) -> None:
    assert column_type(cells) == kind


def test_headers_are_found_below_titles() -> None:
    assert find_header([["Report", "", ""], ["Team", "City", "Cups"], ["Blues", "STL", "1"]]) == (
        ["Team", "City", "Cups"],
        2,
    )
    assert find_header([["1", "2"], ["3", "4"]]) == (["A", "B"], 0)
    assert [column_letter(n) for n in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]


def test_a_citation_names_the_row_of_the_sheet() -> None:
    cell = "<c r='A{0}' t='str'><v>{1}</v></c>"
    rows = {3: "first", 4: "two\nlines", 5: "fifth", 400: "far", 401: "last"}
    sheet = "".join(f"<row r='{number}'>{cell.format(number, value)}</row>" for number, value in rows.items())
    document = document_from(only_document(xlsx({"S": f"<sheetData>{sheet}</sheetData>"}), "a.xlsx"), 1)
    places = [document.place_at(document.text.index(value.split("\n")[0])) for value in rows.values()]
    assert places == [f"sheet S, row {number}" for number in rows]
    assert document.place_at(0) == "sheet S"
    quotes = [Quote(value) for value in rows.values()]
    corpus = Corpus(document.text, Documents([document]).side_table())
    assert [citation.place for citation in corpus.cite(quotes)] == places
