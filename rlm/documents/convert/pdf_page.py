"""Text of one PDF page by pypdfium2: unmapped glyphs, columns, form fields and annotations."""

from __future__ import annotations

import ctypes
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from .columns import column_text

LIGATURES = {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"}
UNKNOWN = "\ufffd"
_HYPHEN_MARK, _MARK = "\u00ad", "\ufffe"
_ANGLE_TOLERANCE = 0.2
_ALEF_LAM = re.compile("[\u0622\u0623\u0625\u0627]\u0644")
_ARABIC = "\u0620-\u064a\u0671-\u06d3"
_LATIN_BESIDE_ARABIC = re.compile(f"(?<=[A-Za-z0-9])(?=[{_ARABIC}])")
_DETACHED_VOWEL = re.compile(f"(?<=[{_ARABIC}]) ([\u064b-\u0652])([{_ARABIC}])")
_MAX_ANNOTATIONS = 2_000
_MAX_VALUE_BYTES = 100_000
_TEX_FF = re.compile(r"(?<=[A-Za-z])↵(?=[a-z-])")  # TeX fonts map "ff" to this sign, and "ffi" to nothing
_TEX_FFI = re.compile(rf"\b(\w{{0,8}}){UNKNOWN}(?=c)")
_FFI_STEMS = ("di", "e", "o", "su", "coe", "tra", "ine", "insu")


def page_text(page: Any, form: Any) -> str:
    """Text of a page in reading order, followed by its form fields and comments."""
    text_page = _upright_text(page)
    try:
        text = column_text(text_page, page.get_width()) or whole_text(text_page)
    finally:
        text_page.close()
    extras = "\n".join(_annotations(page, form))
    text = clean(text)
    return f"{text.rstrip()}\n{clean(extras)}" if extras else text


def _upright_text(page: Any) -> Any:
    """Text of a page in a rotation in which pdfium orders its lines from the first to the last."""
    from pypdfium2 import raw

    text_page = page.get_textpage()
    angle = raw.FPDFText_GetCharAngle(text_page, text_page.count_chars() // 2)
    rotation = 90 if abs(angle - math.pi / 2) < _ANGLE_TOLERANCE else 0
    if page.get_rotation() == rotation:
        return text_page
    text_page.close()
    page.set_rotation(rotation)
    return page.get_textpage()


def whole_text(text_page: Any) -> str:
    """Text with a marker for each glyph that the file maps to no character.

    pdfium leaves some of them out, and gives others the code of a hyphen at a line end.
    """
    from pypdfium2 import raw

    text: str = text_page.get_text_range()
    count = text_page.count_chars()
    if count == len(text) and _ALEF_LAM.search(text):
        text = _with_ligatures(text_page, text)
    if count == len(text):
        marks = [at for at, sign in enumerate(text) if sign == _MARK]
        if not marks:
            return text
        signs = list(text)
        for at in marks:
            signs[at] = _HYPHEN_MARK if raw.FPDFText_IsHyphen(text_page, at) == 1 else UNKNOWN
        return "".join(signs)
    codes = [raw.FPDFText_GetUnicode(text_page, at) for at in range(count)]
    signs = []
    for at, code in enumerate(codes):
        if code in (2, 0xFFFE):
            signs.append(_HYPHEN_MARK if raw.FPDFText_IsHyphen(text_page, at) == 1 else UNKNOWN)
        elif code < 32 and code not in (9, 10, 13):
            signs.append(UNKNOWN)
        else:
            signs.append(chr(code))
    return "".join(signs).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _with_ligatures(text_page: Any, text: str) -> str:
    """Arabic text whose ligatures of lam and alef are two letters in their order.

    pdfium reverses the letters of a line that runs from right to left, and with them those of one glyph.
    """
    signs = list(text)
    for match in _ALEF_LAM.finditer(text):
        at = match.start()
        if text_page.get_charbox(at) == text_page.get_charbox(at + 1):
            signs[at], signs[at + 1] = signs[at + 1], signs[at]
    return "".join(signs)


def clean(text: str) -> str:
    """Letters for ligatures, one kind of line end, no control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace(_MARK, _HYPHEN_MARK).replace("\x02", _HYPHEN_MARK)
    if text.isascii() and text.isprintable():
        return text
    for sign, letters in LIGATURES.items():
        text = text.replace(sign, letters)
    text = _LATIN_BESIDE_ARABIC.sub(" ", text)
    text = _DETACHED_VOWEL.sub(r"\2\1", text)
    text = _TEX_FF.sub("ff", text)
    if UNKNOWN in text:
        text = _TEX_FFI.sub(lambda match: match[1] + ("ffi" if match[1].lower() in _FFI_STEMS else UNKNOWN), text)
    return "".join(sign for sign in text if sign in "\n\t\u00ad" or unicodedata.category(sign)[0] != "C")


def _annotations(page: Any, form: Any) -> Iterator[str]:
    """Values of form fields and texts of comments; neither is part of the page's own text."""
    from pypdfium2 import raw

    for number in range(min(raw.FPDFPage_GetAnnotCount(page), _MAX_ANNOTATIONS)):
        annotation = raw.FPDFPage_GetAnnot(page, number)
        if not annotation:
            continue
        try:
            subtype = raw.FPDFAnnot_GetSubtype(annotation)
            if subtype == raw.FPDF_ANNOT_WIDGET:
                yield from _field(raw, form, annotation)
            elif subtype not in (raw.FPDF_ANNOT_POPUP, raw.FPDF_ANNOT_LINK):
                text = _string(raw.FPDFAnnot_GetStringValue, annotation, b"Contents")
                if text:
                    author = _string(raw.FPDFAnnot_GetStringValue, annotation, b"T")
                    label = "Text box" if subtype == raw.FPDF_ANNOT_FREETEXT else "Comment"
                    yield f"[{label}{f' by {author}' if author else ''}] {' '.join(text.split())}"
        finally:
            raw.FPDFPage_CloseAnnot(annotation)


def _field(raw: Any, form: Any, annotation: Any) -> Iterator[str]:
    if form is None:
        return
    name = _string(raw.FPDFAnnot_GetFormFieldName, form, annotation)
    kind = raw.FPDFAnnot_GetFormFieldType(form, annotation)
    if kind in (raw.FPDF_FORMFIELD_CHECKBOX, raw.FPDF_FORMFIELD_RADIOBUTTON):
        if raw.FPDFAnnot_IsChecked(form, annotation):
            yield f"[Form field {name}] ☒ {_string(raw.FPDFAnnot_GetFormFieldExportValue, form, annotation)}".rstrip()
        elif kind == raw.FPDF_FORMFIELD_CHECKBOX:
            yield f"[Form field {name}] ☐"
    elif kind in (raw.FPDF_FORMFIELD_TEXTFIELD, raw.FPDF_FORMFIELD_COMBOBOX, raw.FPDF_FORMFIELD_LISTBOX):
        value = _string(raw.FPDFAnnot_GetFormFieldValue, form, annotation)
        yield f"[Form field {name}] {' '.join(value.split())}".rstrip()


def _string(read: Any, *arguments: Any) -> str:
    """A string that pdfium writes as UTF-16 into a buffer of the size that it asks for."""
    from pypdfium2 import raw

    size = read(*arguments, None, 0)
    if not 2 < size <= _MAX_VALUE_BYTES:
        return ""
    buffer = (ctypes.c_ubyte * size)()
    read(*arguments, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return bytes(buffer)[:-2].decode("utf-16-le", "replace")
