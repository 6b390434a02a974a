"""PDF files by pypdfium2. Pages are places; scans, passwords and repeated headers are reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .pdf_furniture import join_hyphens, join_pages, split_furniture
from .pdf_page import UNKNOWN, page_text
from .result import Builder, ConversionError, MissingPackageError, Output

_MAX_EMBEDDED = 100
SCAN_REASON = "(a scan or images)"
Attach = Callable[[bytes, str, Output], None]


def convert(data: bytes, path: str, output: Output, attach: Attach) -> None:
    """Adds the document of a PDF file to ``output``; ``attach`` converts embedded files.

    A page without text is reported as a scan; its place holds a marker and no text.
    """
    try:
        import pypdfium2 as pdfium
    except ImportError:
        raise MissingPackageError("PDF", "pypdfium2", '"rlm-arbor[docs]"') from None
    try:
        pdf = pdfium.PdfDocument(data)
    except pdfium.PdfiumError as error:
        needs_password = "password" in str(error).lower()
        raise ConversionError("protected with a password" if needs_password else f"damaged PDF: {error}") from error
    document = Builder(path, "pdf")
    try:
        count = len(pdf)
        pages = _read_pages(pdf, document, output)
        embedded = _embedded_files(pdf)
    finally:
        pdf.close()
    document.pages = count
    if any(page.strip() for page in pages):
        _write_pages(document, pages)
        if embedded:
            document.line("[Embedded files] " + ", ".join(name for name, _ in embedded))
        output.add(document)
    else:
        output.skip(path, f"no text on its {count:,} page{'s' * (count != 1)} {SCAN_REASON}")
    for name, content in embedded:
        output.charge(len(content), 1)
        attach(content, f"{path}!/{name}", output)


def _read_pages(pdf: Any, document: Builder, output: Output) -> list[str]:
    count = len(pdf)
    read = min(count, output.limits.pages)
    form = _form(pdf)
    pages, chars = [], 0
    for number in range(read):
        text = _page_text(pdf, number, form)
        chars += len(text)
        pages.append(text)
        if chars > output.limits.text_chars:
            document.note(f"only the first {number + 1:,} of {count:,} pages are read: too much text")
            break
    if read < count:
        document.note(f"only the first {read:,} of {count:,} pages are read")
    return pages


def _form(pdf: Any) -> Any:
    try:
        pdf.init_forms()
    except Exception:  # noqa: BLE001  a damaged form leaves the pages readable
        return None
    return pdf.formenv


def _page_text(pdf: Any, number: int, form: Any) -> str:
    try:
        page = pdf[number]
    except Exception as error:  # noqa: BLE001  pdfium raises its own types for damaged pages
        return f"[Page {number + 1} is damaged: {type(error).__name__}]"
    try:
        return page_text(page, form)
    except Exception as error:  # noqa: BLE001
        return f"[Page {number + 1} is damaged: {type(error).__name__}]"
    finally:
        page.close()


def _embedded_files(pdf: Any) -> list[tuple[str, bytes]]:
    files = []
    try:
        for number in range(min(pdf.count_attachments(), _MAX_EMBEDDED)):
            attachment = pdf.get_attachment(number)
            name = " ".join(attachment.get_name().replace("/", "_").split())[:200]
            files.append((name or f"file {number + 1}", bytes(attachment.get_data())))
    except Exception:  # noqa: BLE001  damaged attachments leave the pages readable
        return files
    return files


def _write_pages(document: Builder, pages: list[str]) -> None:
    repeated, lines = split_furniture([page.splitlines() for page in pages])
    scans = [number for number, page in enumerate(pages, 1) if not page.strip()]
    if repeated:
        document.line("[Repeated header or footer] " + " / ".join(repeated) + "\n")
    bodies = join_pages(["\n".join(page) for page in lines])
    for number, body in enumerate(bodies, 1):
        document.place(f"p. {number}")
        if number in scans:
            document.line(f"[Page {number} has no text: a scan or an image]")
        else:
            document.line(join_hyphens(body).strip())
        document.line()
    if scans:
        named = ", ".join(map(str, scans[:10])) + (", ..." if len(scans) > 10 else "")
        document.note(f"{len(scans):,} of {len(pages):,} pages have no text (scans or images): {named}")
    unknown = sum(page.count(UNKNOWN) for page in pages)
    if unknown:
        document.note(f"{unknown:,} signs have no character in the file's fonts; they are shown as {UNKNOWN}")
