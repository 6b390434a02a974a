"""Details that readers of converted files miss first: feeds, tracked paragraph marks, wrapped RTF, Arabic ligatures."""

from __future__ import annotations

import pytest
from office_kit import docx, only_document, reason_left_out

from rlm.documents.convert.pdf_page import clean, whole_text
from rlm.documents.convert.rtf import rtf_text

ATOM = b"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Port news</title>
<entry><title>Fees &amp; dues</title><link href="https://example.org/1"/><updated>2024-05-06</updated>
<author><name>Ann</name></author>
<content type="html">&lt;p&gt;Due in &lt;b&gt;May&lt;/b&gt;.&lt;/p&gt;
&lt;ul&gt;&lt;li&gt;one&lt;/li&gt;&lt;/ul&gt;</content></entry></feed>"""
RSS = b"""<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel><title>Port</title>
<item><title>A</title><description>short</description><content:encoded><![CDATA[<p>The whole text.</p>]]></content:encoded></item>
<item><title>B</title><pubDate>Mon, 6 May 2024</pubDate></item></channel></rss>"""


def test_feeds_are_items_with_text() -> None:
    document = only_document(ATOM, "news.xml")
    assert document["kind"] == "feed"
    assert document["text"] == (
        "# Port news\n## Fees & dues\nLink: https://example.org/1\nDate: 2024-05-06\nAuthor: Ann\n\nDue in May.\n\n- one\n\n"
    )
    document = only_document(RSS, "news.rss")
    assert "The whole text." in document["text"]
    assert "short" not in document["text"]
    assert [label for _, label in document["places"]] == ["feed", "item 1", "item 2"]
    broken = only_document(RSS[:-20], "news.rss")
    assert broken["notes"][0].startswith("shown as it is: malformed feed")
    assert only_document(b"<note>plain</note>", "a.xml")["kind"] == "xml"


def test_deleted_paragraph_marks_and_rows_are_accepted() -> None:
    mark = "<w:pPr><w:rPr><w:del w:id='9'/></w:rPr></w:pPr>"
    row = "<w:tr>{}<w:tc><w:p><w:r><w:t>{}</w:t></w:r></w:p></w:tc><w:tc><w:p/></w:tc></w:tr>"
    table = f"<w:tbl>{row.format('', 'kept')}{row.format('<w:trPr><w:del/></w:trPr>', 'gone')}</w:tbl>"
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>unseen</w:t></w:r>"
    text = "<w:p>{}<w:r><w:t xml:space='preserve'>{}</w:t></w:r></w:p>"
    body = (
        text.format(mark, "one ") + text.format("", "two") + table + f"<w:p>{hidden}</w:p>" + text.format(mark, "end")
    )
    document = only_document(docx(body), "a.docx")
    assert "one two\n" in document["text"]
    assert "gone" not in document["text"]
    assert document["text"].rstrip().endswith("unseen\nend")
    assert document["notes"] == ["tracked changes are shown as accepted", "hidden text is included"]


def test_rtf_lines_wrapped_between_words_keep_spaces() -> None:
    assert rtf_text("{\\rtf1 It was\nher work, however\nlong\\par}").strip() == "It was her work, however long"
    assert rtf_text("{\\rtf1 abcdefgh\nijklmnopqrst\nxyz\\par}").strip() == "abcdefgh ijklmnopqrst xyz"
    fixed = "abcdefghij\nklmnopqrst\nuvwxyz"
    assert rtf_text("{\\rtf1\n" + fixed + "\\par}").strip() == "abcdefghijklmnopqrstuvwxyz"


def test_rtf_footnotes_and_headings_are_marked() -> None:
    source = "{\\rtf1 \\pard\\outlinelevel1 Title\\par\\pard Fact\\chftn {\\footnote {\\chftn} Source}.\\par}"
    assert rtf_text(source).strip() == "## Title\nFact[^1].\n\n[Footnote 1] Source"


def test_arabic_beside_latin_and_vowels_are_in_order() -> None:
    assert clean("بلغة Pythonمن الأدوات") == "بلغة Python من الأدوات"
    assert clean("أي ًضا") == "أيضًا"


class LinePage:
    """The text of a page whose two last letters are one glyph, as pdfium gives it for a line from right to left."""

    text = "ال-اإل"

    def get_text_range(self) -> str:
        return self.text

    def count_chars(self) -> int:
        return len(self.text)

    def get_charbox(self, at: int) -> tuple[int, ...]:
        return (4, 0, 5, 9) if at >= 4 else (at, 0, at + 1, 9)


def test_ligatures_are_two_letters_in_order() -> None:
    assert whole_text(LinePage()) == "ال-الإ"


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.zip"])
def test_text_in_place_of_a_file_is_named(name: str) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n"
    assert reason_left_out(pointer, name) == "a pointer of Git LFS; fetch the file itself with: git lfs pull"
    assert reason_left_out(b"../other/" + name.encode(), name).endswith(f"it begins with the text '../other/{name}'")


def test_json_lines_with_errors_are_noted() -> None:
    document = only_document(b'{"a": 1}\n{"b": 2\n\n{"c": 3}\nnot json\n', "a.jsonl")
    assert document["notes"] == ["2 lines are not valid JSON, the first is line 2"]
    assert only_document(b'{"a": 1}\n', "a.jsonl")["notes"] == []
