"""Charts, diagrams, equations, symbols, fields and nested tables of Office files are readable text."""

from __future__ import annotations

import io
import zipfile

import pytest
from office_kit import docx, only_document, paragraph, relations, zipped

from rlm.documents.convert.equations import equation_text
from rlm.documents.convert.packages import parse_xml
from rlm.documents.convert.symbols import symbol

CHART = (
    "<c:chartSpace xmlns:c='c' xmlns:a='a'><c:chart><c:title><a:t>Sales</a:t></c:title><c:plotArea><c:barChart>"
    "<c:ser><c:tx><c:strRef><c:strCache><c:pt idx='0'><c:v>North</c:v></c:pt></c:strCache></c:strRef></c:tx>"
    "<c:cat><c:strRef><c:strCache><c:pt idx='0'><c:v>Q1</c:v></c:pt>"
    "<c:pt idx='1'><c:v>Q2</c:v></c:pt></c:strCache></c:strRef></c:cat>"
    "<c:val><c:numRef><c:numCache><c:pt idx='0'><c:v>5</c:v></c:pt>"
    "<c:pt idx='1'><c:v>7</c:v></c:pt></c:numCache></c:numRef></c:val>"
    "</c:ser></c:barChart><c:valAx><c:title><a:t>EUR</a:t></c:title></c:valAx></c:plotArea></c:chart></c:chartSpace>"
)
DIAGRAM = (
    "<d:dataModel xmlns:d='d' xmlns:a='a'><d:ptLst><d:pt modelId='0' type='doc'/>"
    "<d:pt modelId='1'><d:t><a:p><a:r><a:t>Board</a:t></a:r></a:p></d:t></d:pt>"
    "<d:pt modelId='2'><d:t><a:p><a:r><a:t>Sales team</a:t></a:r></a:p></d:t></d:pt></d:ptLst>"
    "<d:cxnLst><d:cxn srcId='0' destId='1'/><d:cxn srcId='1' destId='2'/></d:cxnLst></d:dataModel>"
)
DRAWING = "<w:p><w:r><w:drawing>{0}</w:drawing></w:r></w:p>"


def cell(*content: str) -> str:
    return f"<w:tc>{''.join(content)}</w:tc>"


def table(*rows: tuple[str, ...]) -> str:
    return "<w:tbl>" + "".join(f"<w:tr>{''.join(row)}</w:tr>" for row in rows) + "</w:tbl>"


def word_text(body: str, parts: dict[str, str] | None = None) -> str:
    return str(only_document(docx(body, parts), "a.docx")["text"])


def test_charts_in_documents_become_tables() -> None:
    body = DRAWING.format("<c:chart xmlns:c='c' r:id='rIdchart1'/>")
    text = word_text(body, {"chart1": CHART})
    assert "[Chart] Sales\nAxes: EUR\n" in text
    assert "| Q1 | 5 |\n| Q2 | 7 |" in text


def test_diagrams_keep_their_levels() -> None:
    body = DRAWING.format("<d:relIds xmlns:d='d' r:dm='rIddiagramData1'/>")
    assert "[Diagram]\n- Board\n  - Sales team\n" in word_text(body, {"diagramData1": DIAGRAM})


def test_slides_show_charts_and_diagrams() -> None:
    names = 'xmlns:p="p" xmlns:a="a" xmlns:r="r"'
    frame = "<p:graphicFrame><a:graphic><a:graphicData>{0}</a:graphicData></a:graphic></p:graphicFrame>"
    shapes = frame.format("<c:chart xmlns:c='c' r:id='rId1'/>") + frame.format("<d:relIds xmlns:d='d' r:dm='rId2'/>")
    data = zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations({"rId1": ("officeDocument", "ppt/presentation.xml")}),
            "ppt/presentation.xml": f'<p:presentation {names}><p:sldIdLst><p:sldId r:id="rId7"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": relations({"rId7": ("slide", "slides/slide1.xml")}),
            "ppt/slides/slide1.xml": f"<p:sld {names}>{shapes}</p:sld>",
            "ppt/slides/_rels/slide1.xml.rels": relations(
                {"rId1": ("chart", "../charts/c.xml"), "rId2": ("diagramData", "../diagrams/d.xml")}
            ),
            "ppt/charts/c.xml": CHART,
            "ppt/diagrams/d.xml": DIAGRAM,
        }
    )
    text = only_document(data, "s.pptx")["text"]
    assert "| Q2 | 7 |" in text
    assert "  - Sales team" in text


def test_alternative_texts_of_images_are_read() -> None:
    body = DRAWING.format("<wp:inline xmlns:wp='w'><wp:docPr id='1' descr='A red square'/></wp:inline>")
    assert word_text(body) == "[Image: A red square]\n"
    legacy = "<w:p><w:r><w:pict><v:shape xmlns:v='v' alt='Old logo'/></w:pict></w:r></w:p>"
    assert word_text(legacy) == "[Image: Old logo]\n"


def test_tables_in_cells_stay_readable() -> None:
    inner = table((cell(paragraph("e")), cell(paragraph("f"))), (cell(paragraph("g")), cell(paragraph("h"))))
    text = word_text(table((cell(paragraph("a")), cell(inner, paragraph("after")))))
    assert "| a | [Table: e; f / g; h] after |" in text


def test_tables_of_one_cell_are_layout() -> None:
    text = word_text(table((cell(paragraph("first"), paragraph("second")),)))
    assert text == "first\nsecond\n"


def test_indented_rows_stay_below_their_columns() -> None:
    late = "<w:tr><w:trPr><w:gridBefore w:val='1'/></w:trPr>" + cell(paragraph("late")) + "</w:tr>"
    body = table((cell(paragraph("a")), cell(paragraph("b")))).replace("</w:tbl>", late + "</w:tbl>")
    assert "|  | late |" in word_text(body)


def test_field_instructions_are_not_shown() -> None:
    def mark(kind: str) -> str:
        return f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>'

    nested = (
        mark("begin")
        + "<w:r><w:t>IF 1 = 2</w:t></w:r>"
        + mark("separate")
        + "<w:r><w:t>page 7</w:t></w:r>"
        + mark("end")
    )
    assert word_text(f"<w:p>{nested}<w:r><w:t> of 9</w:t></w:r></w:p>") == "page 7 of 9\n"
    assert word_text(f"<w:p>{mark('begin')}</w:p>{paragraph('not lost')}").strip() == "not lost"


def test_form_check_boxes_show_their_state() -> None:
    box = '<w:p><w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:checkBox>{0}</w:checkBox></w:ffData></w:fldChar></w:r></w:p>'
    assert word_text(box.format("<w:checked/>")).strip() == "☒"
    assert word_text(box.format('<w:default w:val="0"/>')).strip() == "☐"


@pytest.mark.parametrize(
    ("code", "font", "sign"),
    [("F0FE", "Wingdings", "☑"), ("F061", "Symbol", "α"), ("F0B3", "Symbol", "≥"), ("2192", "Arial", "→"), ("zz", "", "\ufffd")],
)  # fmt: skip
def test_symbol_fonts_become_characters(code: str, font: str, sign: str) -> None:
    assert symbol(code, font) == sign
    body = f'<w:p><w:r><w:sym w:font="{font}" w:char="{code}"/></w:r></w:p>'
    assert word_text(body) == f"{sign}\n"


@pytest.mark.parametrize(
    ("xml", "shown"),
    [
        ("<f><num><r><t>a+b</t></r></num><den><r><t>c</t></r></den></f>", "(a+b)/c"),
        ("<sSup><e><r><t>x</t></r></e><sup><r><t>2</t></r></sup></sSup>", "x^2"),
        ("<rad><deg/><e><r><t>n</t></r></e></rad>", "√(n)"),
        ("<nary><naryPr><chr val='∑'/></naryPr><sub><r><t>i=1</t></r></sub><sup><r><t>n</t></r></sup>"
         "<e><r><t>i</t></r></e></nary>",
         "∑_(i=1)^n i"),
        ("<d><dPr><begChr val='['/><endChr val=']'/></dPr><e><r><t>a</t></r></e></d>", "[a]"),
        ("<m><mr><e><r><t>1</t></r></e><e><r><t>0</t></r></e></mr></m>", "[1, 0]"),
    ],
)  # fmt: skip
def test_equations_are_linear_text(xml: str, shown: str) -> None:
    assert equation_text(parse_xml(f"<oMath>{xml}</oMath>".encode())) == shown
    assert word_text(f"<w:p><w:r><w:t>so </w:t></w:r><m:oMath xmlns:m='m'>{xml}</m:oMath></w:p>") == f"so {shown}\n"


def test_embedded_pages_are_part_of_the_document() -> None:
    data = docx(paragraph("before") + '<w:altChunk r:id="rId1"/>', {"x": ""})
    page = {
        "word/page.html": "<p>embedded</p>",
        "word/_rels/document.xml.rels": relations({"rId1": ("aFChunk", "page.html")}),
    }
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        parts = {name: package.read(name) for name in package.namelist() if name not in page}
    assert "embedded" in only_document(zipped({**parts, **page}), "a.docx")["text"]
