"""Hostile files of every kind: bombs, loops, lies about sizes, deep nesting, names that lead elsewhere."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import sqlite3
import struct
import tarfile
from collections.abc import Mapping

from office_kit import docx, paragraph, pdf, relations, text_lines, xlsx, zipped

ZEROS = bytes(60_000_000)
ENTITIES = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)  # fmt: skip
LAUGHS = ENTITIES + "]><d>&i;</d>"
EXTERNAL = '<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><d>&x;</d>'
COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


def pdf_files() -> Mapping[str, bytes]:
    page = text_lines([(72, 700, "text")])
    good = pdf([page])
    many = b" ".join([b"5 0 R"] * 100_000)
    return {
        "pages": good.replace(b"/Kids [5 0 R] /Count 1", b"/Kids [" + many + b"] /Count 100000"),
        "count": good.replace(b"/Count 1", b"/Count 2000000000"),
        "loop": good.replace(b"/Kids [5 0 R]", b"/Kids [2 0 R]"),
        "parent": good.replace(b"/Parent 2 0 R", b"/Parent 5 0 R"),
        "xref": good.replace(b"startxref\n", b"startxref\n9"),
        "length": good.replace(b"/Length ", b"/Length 9999999"),
        "nesting": pdf(["q " * 200_000 + page]),
        "arrays": pdf([page], entries="/X " + "[" * 50_000 + "]" * 50_000),
        "filters": pdf([page], entries="/Y << /Filter [" + "/FlateDecode " * 5_000 + "] >>"),
        "text": pdf(["BT /F1 12 Tf " + "(word ) Tj " * 50_000 + " ET"]),
        "cut": good[: len(good) // 2],
    }


def word_files() -> Mapping[str, bytes]:
    main = {"[Content_Types].xml": "<Types/>"}
    numbering = (
        '<w:numbering><w:abstractNum w:abstractNumId="1"><w:lvl w:ilvl="0"><w:start w:val="999999999"/>'
        '<w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1"/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="1"/></w:num></w:numbering>'
    )
    wide = '<w:tbl><w:tr><w:tc><w:tcPr><w:gridSpan w:val="999999999"/></w:tcPr><w:p/></w:tc><w:tc><w:p/></w:tc></w:tr></w:tbl>'
    nested = "<w:tbl><w:tr><w:tc>" * 300 + paragraph("deep") + "</w:tc></w:tr></w:tbl>" * 300
    return {
        "laughs": zipped({**main, "word/document.xml": LAUGHS}),
        "external": zipped({**main, "word/document.xml": EXTERNAL}),
        "utf16": zipped({**main, "word/document.xml": LAUGHS.encode("utf-16")}),
        "deep": docx("<w:p>" * 100_000),
        "bomb": zipped({**main, "word/document.xml": b"<d>" + ZEROS}),
        "span": docx(paragraph("text") + wide),
        "tables": docx(nested),
        "letters": docx(
            paragraph("x", '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="1"/></w:numPr>') * 50, {"numbering": numbering}
        ),
        "attributes": docx("<w:p " + " ".join(f'a{n}="x"' for n in range(200_000)) + "/>"),
        "styles": docx(paragraph("x"), {"styles": "<w:styles>" + "<w:tblStylePr>" * 900 + "</w:styles>"}),
        "target": zipped({**main, "_rels/.rels": relations({"r": ("officeDocument", "../../../../etc/passwd")})}),
    }


def sheet_files() -> Mapping[str, bytes]:
    def rows(xml: str) -> bytes:
        return xlsx({"S": f"<sheetData>{xml}</sheetData>"})

    merges = "".join(f'<mergeCell ref="A{n}:XFD{n + 9}"/>' for n in range(1, 9_000, 10))
    strings = "<si>" + "<t>x</t>" * 10 + "</si>"
    return {
        "rows": xlsx(
            {"S": '<dimension ref="A1:XFD1000000000"/><sheetData><row r="1000000000"><c><v>1</v></c></row></sheetData>'}
        ),
        "far": rows('<row r="1"><c r="A1"><v>1</v></c></row><row r="9999999"><c r="XFD9999999"><v>2</v></c></row>'),
        "columns": rows("".join(f'<row r="{n}"><c r="XFD{n}"><v>1</v></c></row>' for n in range(1, 300))),
        "merges": xlsx(
            {"S": f'<sheetData><row r="1"><c r="A1"><v>1</v></c></row></sheetData><mergeCells>{merges}</mergeCells>'}
        ),
        "strings": xlsx({"S": "<sheetData/>"}, strings=strings * 20_000),
        "index": rows("<row><c t='s'><v>999999999</v></c><c t='s'><v>-5</v></c></row>"),
        "number": rows(f"<row><c><v>{'9' * 400_000}</v></c><c><v>1e99999</v></c><c><v>nan</v></c></row>"),
        "laughs": zipped({"[Content_Types].xml": "<Types/>", "xl/workbook.xml": LAUGHS}),
        "date": xlsx(
            {"S": "<sheetData><row><c s='0'><v>1e300</v></c></row></sheetData>"},
            styles="<cellXfs><xf numFmtId='14'/></cellXfs>",
        ),
        "format": xlsx(
            {"S": "<sheetData/>"}, styles=f"<numFmts><numFmt numFmtId='200' formatCode='{'[' * 50_000}'/></numFmts>"
        ),
    }


def archive_files() -> Mapping[str, bytes]:
    inner = b"text"
    for level in range(30):
        inner = zipped({f"{level}.zip": inner})
    links = io.BytesIO()
    with tarfile.open(fileobj=links, mode="w") as archive:
        for name, kind, target in (
            ("a", tarfile.SYMTYPE, "/etc/passwd"),
            ("b", tarfile.LNKTYPE, "a"),
            ("c", tarfile.CHRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    overlapping = bytearray(zipped({"a.txt": "x" * 100}))
    struct.pack_into("<I", overlapping, overlapping.rfind(b"PK\x01\x02") + 24, 0xFFFFFFF0)
    return {
        "z.zip": zipped({"0.txt": ZEROS}),
        "nested.zip": inner,
        "names.zip": zipped({"../../etc/passwd": "x", "/abs": "y", "a/../../b": "z", "c" * 60_000: "w"}),
        "size.zip": bytes(overlapping),
        "cut.zip": zipped({"a.txt": "x" * 1000})[:-20],
        "links.tar": links.getvalue(),
        "b.gz": gzip.compress(ZEROS, 6),
        "twice.gz": gzip.compress(gzip.compress(ZEROS, 6)),
        "b.bz2": bz2.compress(ZEROS),
        "b.xz": lzma.compress(ZEROS, preset=0),
        "header.tar": bytes(257) + b"ustar\x0000" + b"7" * 600,
    }


def mail_files() -> Mapping[str, bytes]:
    head = b"From: a@b.c\r\nSubject: x\r\n"
    boundaries = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(400)
    )
    attached = base64.b64encode(zipped({"a.txt": ZEROS}))
    start = b"From a@b Mon Jan  1 00:00:00 2024\n"
    return {
        "nested.eml": head + boundaries,
        "headers.eml": head + b"X: y\r\n" * 100_000 + b"\r\nbody",
        "folded.eml": head + b"To: a" + b"\r\n a" * 100_000 + b"\r\n\r\nbody",
        "addresses.eml": head + b"To: " + b"<" * 50_000 + b"\r\n\r\nbody",
        "comments.eml": head + b"To: " + b"(" * 50_000 + b"\r\n\r\nbody",
        "words.eml": head + b"Cc: " + b"=?utf-8?q?x?= " * 20_000 + b"\r\n\r\nbody",
        "bomb.eml": head + b"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n"
        b"Content-Disposition: attachment; filename=../../z.zip\r\n\r\n" + attached,
        "charset.eml": head + b"Content-Type: text/plain; charset=" + b"x" * 100_000 + b"\r\n\r\nbody",
        "parts.eml": head + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n' + b"--b\r\n\r\nx\r\n" * 5_000,
        "many.mbox": (start + b"Subject: x\n\nbody\n\n") * 20_500,
    }


def other_files() -> Mapping[str, bytes]:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (x)")
    connection.execute("INSERT INTO t VALUES (1)")
    schema = connection.serialize().replace(b"CREATE TABLE t (x)", b"CREATE TABLE t (((")
    loop = bytearray(COMPOUND + bytes(4_600))
    struct.pack_into("<HH", loop, 30, 9, 6)
    struct.pack_into("<III", loop, 44, 1, 1, 0)
    struct.pack_into("<I", loop, 76, 0)
    struct.pack_into("<128I", loop, 512, *([1] * 128))
    repeated = (
        "<x xmlns:t='t'><body><spreadsheet><t:table><t:table-row t:number-rows-repeated='999999999'>"
        "<t:table-cell t:number-columns-repeated='999999999'><p>x</p></t:table-cell></t:table-row></t:table>"
        "</spreadsheet></body></x>"
    )
    spine = (
        "<package><manifest><item id='a' href='../../../etc/passwd'/></manifest><spine>"
        + "<itemref idref='a'/>" * 50_000
    )
    container = '<container><rootfiles><rootfile full-path="b.opf"/></rootfiles></container>'
    deep = "[" * 200_000
    return {
        "cells.ipynb": json.dumps({"cells": [{"cell_type": 7, "source": {"a": 1}, "outputs": "x"}, 5, None]}).encode(),
        "deep.ipynb": f'{{"cells": {deep}'.encode(),
        "schema.sqlite": schema,
        "loop.msg": bytes(loop),
        "fat.doc": COMPOUND + bytes([0xFF]) * 5_000,
        "repeated.ods": zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": repeated}),
        "spine.epub": zipped(
            {
                "mimetype": "application/epub+zip",
                "META-INF/container.xml": container,
                "b.opf": spine + "</spine></package>",
            }
        ),
        "deep.rtf": b"{\\rtf1" + b"{" * 500_000 + b"x",
        "skip.rtf": b"{\\rtf1 \\uc9999999999 \\u-1 \\bin99999999 x}",
        "deep.html": b"<table><tr><td>" * 20_000 + b"x",
        "spans.html": b"<table>" + b"<tr><td rowspan=9999 colspan=9999>x" * 100,
        "quotes.csv": b'"' + b"a,\n" * 500_000,
        "wide.csv": b"," * 2_000_000,
        "laughs.odt": zipped({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": LAUGHS}),
    }


KINDS = {
    "pdf": pdf_files,
    "docx": word_files,
    "xlsx": sheet_files,
    "": archive_files,
    "mail": mail_files,
    "other": other_files,
}


def file_name(kind: str, key: str) -> str:
    return key if "." in key else f"{key}.{kind}"
