"""Converters of other packages, found by the entry point group ``rlm.converters``.

They run in this process, outside the sandbox. ``rlm.load`` uses one if the caller names it. One that is called "ocr" reads
scanned pages and images, which the built-in converters leave out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from rlm.core.errors import ConfigurationError
from rlm.documents.convert.result import Builder, Limits, Output

GROUP = "rlm.converters"
OCR = "ocr"
BLANK_PAGES = "pages have no text"
"""Part of the note on a PDF with scanned pages."""
_BLANK_PAGE = re.compile(r"\[Page (\d+) has no text: a scan or an image\]\n")
Converter = Callable[[bytes, str], str]
"""Takes the bytes and the name of a file, and returns its text; form feeds separate pages."""


def load_converter(name: str) -> Converter:
    """The converter of a name.

    Raises:
        ConfigurationError: no installed package has a converter of this name, or it cannot be imported.
    """
    points = {point.name: point for point in entry_points(group=GROUP)}
    if name not in points:
        names = ", ".join(sorted(points)) or "none"
        raise ConfigurationError(f"`converter` must name an entry point of {GROUP}; got {name!r}. Installed: {names}")
    try:
        converter: Any = points[name].load()
    except Exception as error:
        raise ConfigurationError(f"`converter` {name!r} cannot be imported: {error}") from error
    if not callable(converter):
        raise ConfigurationError(f"`converter` {name!r} must be a function of the bytes and the name of a file")
    return converter  # type: ignore[no-any-return]


def find_ocr() -> Converter | None:
    """The installed converter for scanned pages and images; None if there is none."""
    return load_converter(OCR) if any(point.name == OCR for point in entry_points(group=GROUP)) else None


def with_recognised_pages(item: Mapping[str, Any], converter: Converter, data: bytes, name: str) -> dict[str, Any]:
    """A document of a PDF whose pages without text have the text that the converter recognises on them.

    The document stays as it is if the converter fails, or returns another number of pages. A note says so.
    """
    document = dict(item)
    try:
        pages = converter(data, name).split("\f")
    except Exception as error:  # noqa: BLE001  code of another package
        return _noted(document, f"text recognition failed: {type(error).__name__}: {str(error)[:200]}")
    if len(pages) != item["pages"]:
        return _noted(document, f"text recognition returned {len(pages):,} pages instead of {item['pages']:,}")
    text, parts, done, shifts = str(item["text"]), list[str](), 0, list[tuple[int, int]]()
    for match in _BLANK_PAGE.finditer(text):
        page_text = pages[int(match[1]) - 1].strip() if int(match[1]) <= len(pages) else ""
        if page_text:
            parts += [text[done : match.start()], f"[Recognised text]\n{page_text}\n"]
            done = match.end()
            shifts.append((match.end(), len(parts[-1]) - len(match[0])))
    document["text"] = "".join(parts) + text[done:]
    document["places"] = [
        [start + sum(by for end, by in shifts if end <= start), label] for start, label in item["places"]
    ]
    document["notes"] = [note for note in document["notes"] if BLANK_PAGES not in note]
    return _noted(
        document, f"the converter {OCR!r} recognised the text of {len(shifts):,} page{'s' * (len(shifts) != 1)}"
    )


def _noted(document: dict[str, Any], note: str) -> dict[str, Any]:
    return {**document, "notes": [*document["notes"], note]}


def convert_with(converter: Converter, data: bytes, name: str, limits: Limits) -> dict[str, Any]:
    """Result of a converter in the form of the built-in ones. Its exceptions become the reason for leaving the file out."""
    output = Output(limits)
    try:
        text = converter(data, name)
    except Exception as error:  # noqa: BLE001  code of another package
        output.skip(name, f"conversion failed: {type(error).__name__}: {str(error)[:300]}")
        return output.plain()
    if not isinstance(text, str):
        output.skip(name, f"conversion failed: the converter returned {type(text).__name__} instead of text")
        return output.plain()
    document = Builder(name, name.rpartition(".")[2].lower()[:30] if "." in name else "text")
    pages = text.split("\f")
    for number, page in enumerate(pages, 1):
        if len(pages) > 1:
            document.place(f"p. {number}")
        document.line(page.rstrip("\n"))
    document.pages = len(pages) if len(pages) > 1 else None
    output.add(document)
    return output.plain()
