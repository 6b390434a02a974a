"""Word documents keep their structure: headings, numbers, tables, notes, comments, boxes, accepted changes."""

from __future__ import annotations

from office_kit import docx, only_document, paragraph, reason_left_out, zipped

STYLES = (
    '<w:styles><w:style w:styleId="H2"><w:name w:val="heading 2"/></w:style>'
    '<w:style w:styleId="Own"><w:name w:val="My heading"/><w:basedOn w:val="H2"/></w:style></w:styles>'
)
NUMBERING = (
    '<w:numbering><w:abstractNum w:abstractNumId="1">'
    '<w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl>'
    '<w:lvl w:ilvl="2"><w:numFmt w:val="upperRoman"/><w:lvlText w:val="%3"/></w:lvl></w:abstractNum>'
    '<w:num w:numId="7"><w:abstractNumId w:val="1"/></w:num></w:numbering>'
)


def numbered(text: str, depth: int) -> str:
    return paragraph(text, f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="7"/></w:numPr>')


def test_headings_follow_inherited_styles() -> None:
    body = paragraph("Direct", '<w:pStyle w:val="H2"/>') + paragraph("Inherited", '<w:pStyle w:val="Own"/>')
    text = only_document(docx(body, {"styles": STYLES}), "a.docx")["text"]
    assert "## Direct\n## Inherited\n" in text


def test_nested_lists_show_their_numbers() -> None:
    body = (
        numbered("one", 0)
        + numbered("sub", 1)
        + numbered("sub", 1)
        + numbered("deep", 2)
        + numbered("two", 0)
        + numbered("again", 1)
    )
    lines = only_document(docx(body, {"numbering": NUMBERING}), "a.docx")["text"].splitlines()
    assert lines[:6] == ["3. one", "  3.a) sub", "  3.b) sub", "    I deep", "4. two", "  4.a) again"]


def test_merged_cells_repeat_their_value() -> None:
    table = (
        '<w:tbl><w:tr><w:tc><w:tcPr><w:gridSpan w:val="2"/></w:tcPr><w:p><w:r><w:t>wide</w:t></w:r></w:p></w:tc></w:tr>'
        '<w:tr><w:tc><w:tcPr><w:vMerge w:val="restart"/></w:tcPr><w:p><w:r><w:t>tall</w:t></w:r></w:p></w:tc>'
        "<w:tc><w:p><w:r><w:t>1</w:t></w:r></w:p></w:tc></w:tr>"
        "<w:tr><w:tc><w:tcPr><w:vMerge/></w:tcPr><w:p/></w:tc><w:tc><w:p><w:r><w:t>2</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    )
    text = only_document(docx(table), "a.docx")["text"]
    assert "| wide | wide |" in text
    assert "| tall | 1 |\n| tall | 2 |" in text


def test_changes_are_shown_as_accepted() -> None:
    body = (
        "<w:p><w:r><w:t>Pay </w:t></w:r><w:del><w:r><w:delText>ten</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>twenty</w:t></w:r></w:ins></w:p>"
    )
    document = only_document(docx(body), "a.docx")
    assert document["text"] == "Pay twenty\n"
    assert document["notes"] == ["tracked changes are shown as accepted"]


def test_notes_comments_headers_and_boxes_are_read() -> None:
    body = (
        '<w:p><w:r><w:t>Body</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r><w:r><w:commentReference w:id="0"/></w:r>'
        "<w:r><w:pict><w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p></w:txbxContent></w:pict></w:r></w:p>"
    )
    parts = {
        "footnotes": '<w:footnotes><w:footnote w:id="2">'
        "<w:p><w:r><w:t>see page nine</w:t></w:r></w:p></w:footnote></w:footnotes>",
        "comments": '<w:comments><w:comment w:id="0" w:author="Eve">'
        "<w:p><w:r><w:t>really?</w:t></w:r></w:p></w:comment></w:comments>",
        "header1": "<w:hdr><w:p><w:r><w:t>Confidential</w:t></w:r></w:p></w:hdr>",
        "footer1": "<w:ftr><w:p><w:r><w:t>ACME Ltd</w:t></w:r></w:p></w:ftr>",
    }
    text = only_document(docx(body, parts), "a.docx")["text"]
    for wanted in ("[Header] Confidential", "Body[^2][Comment 0]", "[Text box] boxed", "[Footnote 2] see page nine",
                   "[Comment 0 by Eve] really?", "[Footer] ACME Ltd"):  # fmt: skip
        assert wanted in text


def test_fallback_content_is_not_read_twice() -> None:
    body = (
        "<w:p><w:r><mc:AlternateContent xmlns:mc='m'><mc:Choice><w:t>once</w:t></mc:Choice>"
        "<mc:Fallback><w:t>once</w:t></mc:Fallback></mc:AlternateContent></w:r></w:p>"
    )
    assert only_document(docx(body), "a.docx")["text"] == "once\n"


def test_entity_declarations_are_refused() -> None:
    bomb = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]><d>&b;</d>'
    data = zipped({"[Content_Types].xml": "<Types/>", "word/document.xml": bomb})
    assert "declares XML entities" in reason_left_out(data, "a.docx")


def test_deep_nesting_is_refused() -> None:
    data = docx("<w:p>" * 5_000 + "</w:p>" * 5_000)
    assert "nests more than" in reason_left_out(data, "a.docx")


def test_missing_main_part_is_reported() -> None:
    data = zipped({"[Content_Types].xml": "<Types/>", "word/other.xml": "<a/>"})
    assert "word/document.xml is missing" in reason_left_out(data, "a.docx")
