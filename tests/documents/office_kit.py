"""Small office files, built from their XML parts, and other files that tests convert."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from rlm.documents.convert.dispatch import convert
from rlm.documents.convert.result import Limits

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
R = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
TYPES = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/"


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return buffer.getvalue()


def relations(targets: Mapping[str, tuple[str, str]]) -> str:
    items = "".join(
        f'<Relationship Id="{key}" Type="{TYPES}{kind}" Target="{target}"'
        + (' TargetMode="External"/>' if "://" in target else "/>")
        for key, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{RELATIONSHIPS}">{items}</Relationships>'


def docx(body: str, parts: Mapping[str, str] | None = None) -> bytes:
    """A docx file; ``parts`` are further parts such as ``{"footnotes": "<w:footnotes>...</w:footnotes>"}``."""
    parts = parts or {}
    kinds = {name: "".join(sign for sign in name if not sign.isdigit()) for name in parts}
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations({"rId1": ("officeDocument", "word/document.xml")}),
            "word/document.xml": f"<w:document {W} {R}><w:body>{body}</w:body></w:document>",
            "word/_rels/document.xml.rels": relations({f"rId{name}": (kinds[name], f"{name}.xml") for name in parts}),
            **{f"word/{name}.xml": xml.replace(">", f" {W}>", 1) for name, xml in parts.items()},
        }
    )


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def xlsx(
    sheets: Mapping[str, str], *, strings: str = "", styles: str = "", states: Mapping[str, str] | None = None
) -> bytes:
    """An xlsx file; ``sheets`` maps names to the XML inside ``<worksheet>``."""
    listed, targets, parts = "", {}, {}
    for number, (name, xml) in enumerate(sheets.items(), 1):
        state = f' state="{states[name]}"' if states and name in states else ""
        listed += f'<sheet name="{name}" sheetId="{number}"{state} r:id="rId{number}"/>'
        targets[f"rId{number}"] = ("worksheet", f"worksheets/sheet{number}.xml")
        parts[f"xl/worksheets/sheet{number}.xml"] = f"<worksheet>{xml}</worksheet>"
    targets["rIdS"], targets["rIdT"] = ("sharedStrings", "sharedStrings.xml"), ("styles", "styles.xml")
    return zipped(
        {
            "[Content_Types].xml": "<Types/>",
            "_rels/.rels": relations({"rId1": ("officeDocument", "xl/workbook.xml")}),
            "xl/workbook.xml": f"<workbook {R}><sheets>{listed}</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": relations(targets),
            "xl/sharedStrings.xml": f"<sst>{strings}</sst>",
            "xl/styles.xml": f"<styleSheet>{styles}</styleSheet>",
            **parts,
        }
    )


def pdf(pages: list[str], *, entries: str = "", catalog: str = "", extra: Sequence[str] = ()) -> bytes:
    """A PDF file with one content stream for each page; ``BT``/``ET`` text operators are the caller's.

    ``entries`` and ``catalog`` go into the dictionaries of pages and catalog. With one page, ``extra`` objects begin at 6.
    """
    objects = [f"<< /Type /Catalog /Pages 2 0 R {catalog} >>", ""]
    kids = []
    objects.append("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    for content in pages:
        objects.append(f"<< /Length {len(content.encode('latin-1'))} >>\nstream\n{content}\nendstream")
        stream = len(objects)
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {stream} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> {entries} >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    objects.extend(extra)
    out, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    start = len(out)
    return out + (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer << /Size {len(objects) + 1} /Root 1 0 R >>\n"
        f"startxref\n{start}\n%%EOF\n"
    ).encode("latin-1")


def text_lines(lines: list[tuple[int, int, str]]) -> str:
    """Text operators that show lines at positions, in the order given."""
    shown = "".join(f"1 0 0 1 {x} {y} Tm ({text}) Tj " for x, y, text in lines)
    return f"BT /F1 12 Tf {shown} ET"


def only_document(data: bytes, name: str, limits: Limits | None = None) -> dict[str, Any]:
    """The single document of a file that converts without leaving anything out."""
    result = convert(data, name, limits)
    assert result["left_out"] == []
    (document,) = result["documents"]
    assert isinstance(document, dict)
    return document


def reason_left_out(data: bytes, name: str, limits: Limits | None = None) -> str:
    """The reason for leaving out a file that yields no document."""
    result = convert(data, name, limits)
    assert result["documents"] == []
    ((path, reason),) = result["left_out"]
    assert path == name
    return str(reason)
