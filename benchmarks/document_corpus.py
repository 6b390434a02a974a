"""Writes a corpus of documents with known sentences, table rows and places: ``python document_corpus.py FOLDER [--files N]``.

Runs in an environment with python-docx, openpyxl, python-pptx, reportlab, odfpy and xlwt. ``truth.json`` maps each file to
its needles (sentence, place), rows (cells, place) and, for tables, the shown values.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sqlite3
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path

from document_draw import Draw, Truth
from document_office import write_docx, write_ods, write_odt, write_pdf, write_pptx, write_xls, write_xlsx


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
