"""PDF files by pypdfium2. Pages are places; scans, passwords and repeated headers are reported."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Any

from .columns import column_text
from .result import Builder, ConversionError, Output

INSTALL = 'PDF needs pypdfium2; install it with: pip install "rlm-arbor[docs]"'
_LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
_HYPHEN = re.compile(r"(\w)(?:[\u00ad\u2010\ufffe\u0002]|-)\r?\n(?=[a-zà-öø-ÿα-ωа-я])")
_MIN_REPEATS = 3
_EDGE_LINES = 2
_MAX_EDGE_CHARS = 200


def convert(data: bytes, path: str, output: Output) -> None:
    """Adds the document of a PDF file to ``output``.

    A page without text is reported as a scan; its place holds a marker and no text.
    """
    try:
        import pypdfium2 as pdfium
    except ImportError:
        raise ConversionError(INSTALL) from None
    try:
        pdf = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        needs_password = "password" in str(error).lower()
        raise ConversionError("protected with a password" if needs_password else f"damaged PDF: {error}") from error
    document = Builder(path, "pdf")
    try:
        count = len(pdf)
        read = min(count, output.limits.pages)
        pages, chars = [], 0
        for number in range(read):
            text = _page_text(pdf, number)
            chars += len(text)
            pages.append(text)
            if chars > output.limits.text_chars:
                document.note(f"only the first {number + 1:,} of {count:,} pages are read: too much text")
                break
    finally:
        pdf.close()
    document.pages = count
    if not any(page.strip() for page in pages):
        raise ConversionError(f"no text on its {count:,} page{'s' * (count != 1)} (a scan or images)")
    if read < count:
        document.note(f"only the first {read:,} of {count:,} pages are read")
    _write_pages(document, pages)
    output.add(document)


def _write_pages(document: Builder, pages: list[str]) -> None:
    lines = [page.splitlines() for page in pages]
    repeated = _repeated_edges(lines)
    scans = [number for number, page in enumerate(pages, 1) if not page.strip()]
    if repeated:
        shown = sorted(repeated, key=lambda edge: -repeated[edge])[:10]
        document.line("[Repeated header or footer] " + " / ".join(shown) + "\n")
    for number, page in enumerate(lines, 1):
        document.place(f"p. {number}")
        if number in scans:
            document.line(f"[Page {number} has no text: a scan or an image]")
        else:
            left_out = {at for at, edge in _edges(page) if edge in repeated} if repeated else set()
            body = "\n".join(line for at, line in enumerate(page) if at not in left_out)
            document.line(_join_hyphens(body).strip())
        document.line()
    if scans:
        named = ", ".join(map(str, scans[:10])) + (", ..." if len(scans) > 10 else "")
        document.note(f"{len(scans):,} of {len(pages):,} pages have no text (scans or images): {named}")


def _page_text(pdf: Any, number: int) -> str:
    try:
        page = pdf[number]
    except Exception as error:  # noqa: BLE001  pdfium raises its own types for damaged pages
        return f"[Page {number + 1} is damaged: {type(error).__name__}]"
    try:
        text_page = page.get_textpage()
        try:
            text: str = column_text(text_page, page.get_width()) or text_page.get_text_range()
        finally:
            text_page.close()
    except Exception as error:  # noqa: BLE001
        return f"[Page {number + 1} is damaged: {type(error).__name__}]"
    finally:
        page.close()
    return clean(text)


def clean(text: str) -> str:
    """Letters for ligatures, one kind of line end, no control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufffe", "\u00ad").replace("\x02", "\u00ad")
    if any(sign in text for sign in _LIGATURES):
        for sign, letters in _LIGATURES.items():
            text = text.replace(sign, letters)
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign for sign in text if sign in "\n\t\u00ad" or unicodedata.category(sign)[0] != "C")


def _join_hyphens(text: str) -> str:
    return _HYPHEN.sub(r"\1", text).replace("\u00ad\n", "").replace("\u00ad", "")


def _edges(page: list[str]) -> list[tuple[int, str]]:
    """Lines at the top and bottom of a page, by number, in the form in which they repeat.

    Numbers are left out of the outermost lines: page numbers differ in otherwise equal headers.
    """
    filled = [(at, " ".join(line.split())) for at, line in enumerate(page) if line.strip()]
    near = {at: line for at, line in (*filled[:_EDGE_LINES], *filled[-_EDGE_LINES:]) if len(line) < _MAX_EDGE_CHARS}
    for at, line in filled[:1] + filled[-1:]:
        if at in near:
            near[at] = re.sub(r"\d+", "#", line)
    return list(near.items())


def _repeated_edges(pages: list[list[str]]) -> dict[str, int]:
    if len(pages) < _MIN_REPEATS:
        return {}
    counts = Counter(edge for page in pages for edge in {edge for _, edge in _edges(page)})
    least = max(_MIN_REPEATS, len(pages) // 2)
    return {edge: count for edge, count in counts.items() if count >= least}
