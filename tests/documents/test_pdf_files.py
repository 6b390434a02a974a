"""PDF text: pages as places, ligatures, hyphens, repeated headers, scans and damage."""

from __future__ import annotations

import pytest
from office_kit import only_document, pdf, reason_left_out, text_lines

from rlm.documents.convert.pdf_page import clean
from rlm.documents.convert.result import Limits

pytest.importorskip("pypdfium2", reason="PDF needs the extra docs")


def page(*lines: str, top: int = 700) -> str:
    return text_lines([(72, top - 20 * at, line) for at, line in enumerate(lines)])


def test_every_page_is_a_place() -> None:
    document = only_document(pdf([page("first page"), page("second page")]), "a.pdf")
    starts = {label: start for start, label in document["places"]}
    assert document["text"].index("second page") == starts["p. 2"]
    assert document["pages"] == 2


def test_words_hyphenated_at_line_ends_are_joined() -> None:
    text = only_document(pdf([page("The agree-", "ment holds for non-EU", "countries")]), "a.pdf")["text"]
    assert "The agreement holds" in text
    assert "non-EU" in text


def test_pages_without_text_are_reported() -> None:
    document = only_document(pdf([page("text"), "0 0 100 100 re f"]), "a.pdf")
    assert document["notes"] == ["1 of 2 pages have no text (scans or images): 2"]
    assert "[Page 2 has no text: a scan or an image]" in document["text"]


def test_files_without_any_text_are_left_out() -> None:
    assert reason_left_out(pdf(["0 0 9 9 re f"] * 3), "scan.pdf") == "no text on its 3 pages (a scan or images)"


def test_repeated_headers_stand_apart() -> None:
    pages = [
        page("ACME Annual Report", f"Content of sheet {n}", "more", f"item {n} and more", f"Page {n} of 5")
        for n in range(1, 6)
    ]
    text = only_document(pdf(pages), "a.pdf")["text"]
    assert text.startswith("[Repeated header or footer] ")
    assert text.count("ACME Annual Report") == 1
    assert "Content of sheet 4" in text


def test_pages_beyond_the_limit_are_noted() -> None:
    document = only_document(pdf([page("x")] * 5), "a.pdf", Limits(pages=2))
    assert document["notes"] == ["only the first 2 of 5 pages are read"]


def test_columns_written_across_are_read_downwards() -> None:
    lines = [
        (72, 740, "A title that runs over the whole width of the page, from left to right, above both of the columns")
    ]
    for at in range(8):
        lines.append((72, 700 - 20 * at, f"left column line {at} with some more words"))
        lines.append((320, 700 - 20 * at, f"right column line {at} with more words"))
    text = only_document(pdf([text_lines(lines)]), "a.pdf")["text"]
    assert text.index("A title") < text.index("left column line 0")
    assert text.index("left column line 7") < text.index("right column line 0")


def test_table_rows_are_not_taken_for_columns() -> None:
    lines = [
        place for at in range(12) for place in ((72, 700 - 20 * at, f"Item {at}"), (330, 700 - 20 * at, f"{at}.50"))
    ]
    text = only_document(pdf([text_lines(lines)]), "a.pdf")["text"]
    assert text.index("0.50") < text.index("Item 1")


def test_ligatures_become_letters() -> None:
    assert clean("ef\ufb01cient o\ufb00er\x00\u200b") == "efficient offer"


@pytest.mark.parametrize("data", [b"%PDF-1.4\ngarbage", pdf(["x"])[:120], b"%PDF-1.7" + bytes(2000)])
def test_damaged_files_are_left_out(data: bytes) -> None:
    assert "damaged PDF" in reason_left_out(data, "a.pdf") or "no text" in reason_left_out(data, "a.pdf")


def test_names_that_end_in_pdf_are_not_trusted() -> None:
    assert reason_left_out(b"../elsewhere.pdf", "a.pdf") == (
        "damaged PDF file: it begins with the text '../elsewhere.pdf'"
    )
