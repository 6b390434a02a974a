"""Mail, books, slides, notebooks, web pages, databases, delimited files and archives."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import tarfile
import time
import zipfile
from typing import Any

import pytest
from office_kit import only_document, reason_left_out, relations, zipped

from rlm.documents.convert.delimited import find_delimiter
from rlm.documents.convert.dispatch import convert, find_kind
from rlm.documents.convert.html import page_text
from rlm.documents.convert.result import Limits
from rlm.documents.convert.rtf import rtf_text


def test_hidden_parts_of_pages_are_not_read() -> None:
    text, title = page_text(
        "<html><head><title>T</title><style>p{}</style></head><body><script>no()</script><p>yes</p>"
        '<div style="display:none">no</div><div hidden>no<p>no</p></div><p>end</p></body></html>'
    )
    assert title == "T"
    assert text.split() == ["yes", "end"]


def test_page_tables_lists_and_links_are_kept() -> None:
    text, _ = page_text(
        "<h2>Head</h2><ul><li>one<ol><li>sub</ol><li>two</ul><a href='https://x.org/a'>link</a>"
        "<table><tr><th rowspan=2>a<th>b<tr><td>c</table><img alt='A cat'><p>a<br>b"
    )
    for wanted in (
        "## Head",
        "- one",
        "  1. sub",
        "- two",
        "[link](https://x.org/a)",
        "| a | b |",
        "| a | c |",
        "[Image: A cat]",
        "a\nb",
    ):
        assert wanted in text


@pytest.mark.parametrize(
    "markup",
    [
        "<div>" * 50_000,
        "<" * 100_000,
        "<a href='" * 20_000,
        "&#" * 50_000,
        "<table><tr>" * 5_000,
        "<!--" * 30_000,
        "<a href='" * 20_000 + ">",
        "<p " + "a='b' " * 50_000 + ">",
        "</" * 50_000,
        '<p title="' * 9_999 + '>">' * 9,
    ],
)
def test_hostile_pages_end_soon(markup: str) -> None:
    start = time.process_time()
    page_text(markup)
    assert time.process_time() - start < 10


def test_embedded_data_addresses_do_not_hide_text() -> None:
    markup = f'<img alt="logo" src="data:image/png;base64,{"iVBOR" * 20_000}"><p>after</p>'
    assert page_text(markup)[0].split() == ["[Image:", "logo]", "after"]


def test_mail_has_headers_body_and_attachments() -> None:
    data = (
        b"From: =?utf-8?q?J=C3=BCrgen?= <j@x.org>\r\nTo: a@b.c\r\nSubject: Offer\r\nMIME-Version: 1.0\r\n"
        b'Content-Type: multipart/mixed; boundary="B"\r\n\r\n--B\r\nContent-Type: text/plain; charset=latin-1\r\n'
        b"\r\nGr\xfc\xdfe\r\n"
        b'--B\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename="p.csv"\r\n\r\na,b\r\n1,2\r\n--B--\r\n'
    )
    mail, table = convert(data, "m.eml")["documents"]
    assert "From: Jürgen <j@x.org>" in mail["text"]
    assert "Grüße" in mail["text"]
    assert (table["path"], table["kind"]) == ("m.eml!/p.csv", "csv")


def test_mailbox_yields_every_message() -> None:
    one = b"From a@b Mon Jan 1 00:00:00 2024\nFrom: a@b\nSubject: One\n\nbody one\n\n"
    documents = convert(one + one.replace(b"One", b"Two"), "m.mbox")["documents"]
    assert [item["path"] for item in documents] == ["m.mbox!/0001.eml", "m.mbox!/0002.eml"]
    assert "Subject: Two" in documents[1]["text"]


def test_slides_keep_titles_tables_and_speaker_notes() -> None:
    shape = '<p:sp><p:nvSpPr><p:nvPr><p:ph type="{0}"/></p:nvPr></p:nvSpPr>'
    shape += "<p:txBody><a:p><a:r><a:t>{1}</a:t></a:r></a:p></p:txBody></p:sp>"
    names = 'xmlns:p="p" xmlns:a="a" xmlns:r="r"'
    data = zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations({"rId1": ("officeDocument", "ppt/presentation.xml")}),
            "ppt/presentation.xml": f'<p:presentation {names}><p:sldIdLst><p:sldId r:id="rId7"/></p:sldIdLst></p:presentation>',
            "ppt/_rels/presentation.xml.rels": relations({"rId7": ("slide", "slides/slide1.xml")}),
            "ppt/slides/slide1.xml": f"<p:sld {names}>{shape.format('title', 'Plan')}{shape.format('body', 'Do it')}</p:sld>",
            "ppt/slides/_rels/slide1.xml.rels": relations({"rId1": ("notesSlide", "../notesSlides/n1.xml")}),
            "ppt/notesSlides/n1.xml": f"<p:notes {names}>{shape.format('body', 'Say hello')}</p:notes>",
        }
    )
    document = only_document(data, "s.pptx")
    assert "# Plan\n- Do it\n" in document["text"]
    assert "[Speaker notes] Say hello" in document["text"]
    assert document["places"] == [[0, "slide 1"]]


def test_notebook_cells_are_places() -> None:
    cells: list[dict[str, Any]] = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": "1+1",
            "outputs": [{"output_type": "execute_result", "data": {"text/plain": "2"}}],
        },
    ]
    document = only_document(json.dumps({"cells": cells}).encode(), "n.ipynb")
    assert [label for _, label in document["places"]] == ["cell 1", "cell 2"]
    assert "```python\n1+1\n```\nOutput:\n2" in document["text"]


def test_databases_become_tables() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute('CREATE TABLE "odd ""name" (id INTEGER, label TEXT, raw BLOB)')
    connection.execute('INSERT INTO "odd ""name" VALUES (1, ?, x\'00ff\')', ("a,b",))
    document = only_document(connection.serialize(), "d.sqlite")
    assert 'id,label,raw\n1,"a,b",<2 bytes>\n' in document["text"]
    assert document["tables"][0]["name"] == 'odd "name'


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2\n", ";"),
        ("a\tb\n1\t2\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ("one column\nonly\n", ","),
    ],
)
def test_delimiters_are_detected(text: str, delimiter: str) -> None:
    assert find_delimiter(text) == delimiter


def test_decimal_commas_and_encoding_are_noted() -> None:
    document = only_document("Stück;Preis\nÄpfel;1,50\n".encode("cp1252"), "p.csv")
    assert document["notes"] == ["decoded as cp1252", "delimiter: semicolon", "decimal comma in numbers"]
    assert document["text"].startswith("Stück;Preis")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
def test_text_in_any_encoding_arrives_intact(encoding: str) -> None:
    text = "Die Größe der Änderung beträgt fünf Prozent.\n" * 5
    assert only_document(text.encode(encoding), "t.txt")["text"] == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1251", "Договор поставки заключён между сторонами на срок до пяти лет.\n"),
        ("cp932", "契約は五年間有効であり、価格は固定されています。\n"),
        ("gb18030", "合同自签订之日起生效，有效期为五年，价格不得变更。\n"),
        ("euc_kr", "계약은 오 년 동안 유효하며 가격은 고정되어 있습니다.\n"),
        ("cp1253", "Η σύμβαση ισχύει για πέντε χρόνια και η τιμή είναι σταθερή.\n"),
    ],
)  # fmt: skip
def test_other_scripts_are_detected_and_noted(encoding: str, text: str) -> None:
    document = only_document((text * 8).encode(encoding), "t.txt")
    assert document["text"] == text * 8
    assert document["notes"][0].startswith("decoded as ")


def test_cut_utf8_at_the_end_is_noted() -> None:
    document = only_document("Größe ".encode() + b"\xc3", "t.txt")
    assert document["text"] == "Größe "
    assert "inside a UTF-8 character" in document["notes"][0]


@pytest.mark.parametrize("text", ["café", "Zürich und Köln, Größe", "naïve déjà vu à"])
def test_legacy_text_that_ends_beyond_ascii_is_detected(text: str) -> None:
    document = only_document(text.encode("cp1252"), "t.txt")
    assert document["text"] == text
    assert document["notes"] == ["decoded as cp1252"]


def test_rich_text_keeps_unicode_and_footnotes() -> None:
    source = r"{\rtf1\ansi\ansicpg1252 {\fonttbl{\f0 Arial;}}Caf\'e9 \u8364?5\par {\*\generator x}next{\footnote see \'a7 2}}"
    assert rtf_text(source).split() == ["Café", "€5", "next", "[Footnote]", "see", "§", "2"]


def test_archives_yield_their_members() -> None:
    inner = zipped({"deep.txt": "inside"})
    documents = convert(zipped({"a/b.txt": "text", "inner.zip": inner}), "z.zip")["documents"]
    assert {item["path"]: item["text"] for item in documents} == {
        "z.zip!/a/b.txt": "text",
        "z.zip!/inner.zip!/deep.txt": "inside",
    }


def test_member_names_never_lead_outside() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("../../etc/passwd", "/abs.txt", "ok/../x.txt"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"hi"))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    result = convert(buffer.getvalue(), "t.tar.gz")
    assert [item["path"] for item in result["documents"]] == [
        "t.tar.gz!/etc/passwd",
        "t.tar.gz!/abs.txt",
        "t.tar.gz!/ok/x.txt",
    ]
    assert result["left_out"] == [["t.tar.gz!/link", "a link or a device"]]


def test_decompression_bombs_stop_at_the_limit() -> None:
    bomb = gzip.compress(bytes(300_000_000), 9)
    assert "decompression bomb" in reason_left_out(bomb, "b.gz")
    assert "unpacks to more than" in reason_left_out(bomb, "b.gz", Limits(unpacked_bytes=1_000_000))
    flat = zipped({f"{n}.txt": b"a" * 1_000_000 for n in range(60)})
    assert "unpacks to more than" in convert(flat, "z.zip", Limits(unpacked_bytes=5_000_000))["left_out"][-1][1]


def test_nested_archives_stop_at_the_depth_limit() -> None:
    data: bytes = b"core"
    for level in range(8):
        data = zipped({f"{level}.zip" if level else "core.txt": data})
    assert "nested more than 3 deep" in convert(data, "n.zip")["left_out"][-1][1]


def test_many_members_stop_at_the_limit() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as package:
        for number in range(300):
            package.writestr(f"{number}.txt", "x")
    assert "holds more than 100 files" in reason_left_out(buffer.getvalue(), "z.zip", Limits(members=100))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"), (b"\x89PNG\r\n\x1a\n" + bytes(50), "not text: an image"),
        (b"\x7fELF" + bytes(50), "not text: program"),
        (bytes(range(256)) * 20, "not text: an unknown binary format"), (b"PK\x03\x04" + bytes(100), "damaged ZIP structure"),
        (b"SQLite format 3\0" + bytes(500), "not a readable SQLite database"),
        (b"\x1f\x8b\x08" + bytes(30), "damaged compressed data"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "damaged compound file"), (b"Rar!\x1a\x07" + bytes(50), "rar archive"),
    ],
)  # fmt: skip
def test_unreadable_files_name_the_reason(data: bytes, reason: str) -> None:
    assert reason in reason_left_out(data, "file.bin")


def test_kind_comes_from_content_before_the_name() -> None:
    assert find_kind(b"%PDF-1.4 ...", "a.txt") == "pdf"
    assert find_kind(b"<!DOCTYPE html><html>", "page") == "html"
    assert find_kind(b"a,b\n", "x.CSV") == "csv"
    assert find_kind(b"plain", "x.docx") == "text"
