"""Decoding of text files: byte order mark, declared encoding, UTF-8, then a detector. Uncertain results are reported."""

from __future__ import annotations

import codecs
import re

from .result import Builder, ConversionError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_DECLARED = re.compile(rb"""(?:charset\s*=\s*["']?|encoding\s*=\s*["']|coding[:=]\s*)([A-Za-z0-9_.:-]{2,40})""")
_SAMPLE_BYTES = 65_536
_WESTERN = frozenset("äöüÄÖÜßéèêëàâáíìîïóòôúùûñçåæøÉÈÀÇÑÅÆØ€“”‘’–—…£§°«»®©·½²³µ±×\xa0")


def decode(data: bytes, document: Builder | None = None, *, declared: str = "") -> str:
    """Text of ``data``. A guessed encoding is noted on ``document``.

    Raises:
        ConversionError: no encoding fits.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _strict(data, name, document)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        cut_end = error.reason == "unexpected end of data" and len(data) - error.start < 4
        # Without another character beyond ASCII, a last byte such as 0xE9 is more likely a letter of a legacy encoding.
        if cut_end and not data[: error.start].isascii():
            if document is not None:
                document.note("the file ends inside a UTF-8 character; its last bytes are left out")
            return data[: error.start].decode("utf-8")
    match = _DECLARED.search(data[:2048])
    for name in (declared, match.group(1).decode("ascii") if match else "", _utf16_without_mark(data)):
        if name and _is_text_codec(name):
            try:
                text = data.decode(name)
            except UnicodeDecodeError:
                continue
            _note(document, name)
            return text
    name = detect(data)
    text = _strict(data, name, None)
    _note(document, name)
    return text


def _note(document: Builder | None, name: str) -> None:
    if document is not None:
        document.note(f"decoded as {codecs.lookup(name).name}")


def _is_text_codec(name: str) -> bool:
    try:
        return codecs.lookup(name)._is_text_encoding
    except (LookupError, ValueError):
        return False


def _strict(data: bytes, name: str, document: Builder | None) -> str:
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        if document is not None:
            document.note(f"bytes that are not {name} are shown as \ufffd")
        return data.decode(name, "replace")


def _utf16_without_mark(data: bytes) -> str:
    sample = data[:2000]
    if len(sample) < 4 or len(data) % 2:
        return ""
    odd, even = sample[1::2].count(0), sample[0::2].count(0)
    if odd > 0.4 * len(sample) / 2 and even < odd / 4:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * len(sample) / 2 and odd < even / 4 else ""


def detect(data: bytes) -> str:
    """The most likely encoding of bytes that are not UTF-8, by ``charset-normalizer``; cp1252 if that is not installed.

    Raises:
        ConversionError: the bytes do not look like text.
    """
    sample = _sample(data)
    if _looks_western(sample):
        return "cp1252"
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return "cp1252" if _decodes(sample, "cp1252") else "latin-1"
    best = from_bytes(sample, steps=8, chunk_size=512).best()
    if best is None:
        raise ConversionError("the encoding is unknown; name it with encoding=")
    return best.encoding


def _looks_western(sample: bytes) -> bool:
    """True for mostly ASCII text whose other bytes are Western letters and signs in cp1252.

    Short texts of this kind fit many code pages; text in other scripts holds far more bytes beyond ASCII.
    """
    if not _decodes(sample, "cp1252"):
        return False
    text = sample.decode("cp1252")
    high = [sign for sign in text if ord(sign) > 127]
    letters = sum(map(str.isalpha, text))
    western = sum(sign in _WESTERN for sign in high)
    return bool(high) and western >= 0.8 * len(high) and len(high) <= max(0.45 * letters, 3)


def _decodes(data: bytes, name: str) -> bool:
    try:
        data.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _sample(data: bytes) -> bytes:
    """Start of the file, and the surroundings of bytes beyond ASCII, which can come late."""
    sample = data[:_SAMPLE_BYTES]
    if not sample.isascii():
        return sample
    lines = [line for line in data[_SAMPLE_BYTES : 64 * _SAMPLE_BYTES].split(b"\n") if not line.isascii()]
    return b"\n".join(lines[:500])[:_SAMPLE_BYTES] or sample
