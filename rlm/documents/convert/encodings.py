"""Decoding of text files: byte order mark, declared encoding, UTF-8, then a detector. Uncertain results are reported."""

from __future__ import annotations

import codecs
import contextlib
import re
from collections.abc import Sequence

from .charsets import detect
from .result import Builder, ConversionError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_DECLARED = re.compile(rb"""(?:charset\s*=\s*["']?|encoding\s*=\s*["']|coding[:=]\s*)([A-Za-z0-9_.:-]{2,40})""")
_JAPANESE_ESCAPE = re.compile(rb"\x1b\$[@B].*?\x1b\([BJ]", re.DOTALL)
_OF_TEXTS = re.compile(
    r"(?:ascii|utf-(?:8|16|32)(?:-sig|-[bl]e)?|iso(?:8859|2022)[-_].*|cp\d+|koi8-.|mac-.*|shift_jis.*|euc_.*|gb.*|big5.*|hz|johab|tis-620)"
)
_MEANT = {
    "ascii": "cp1252", "iso8859-1": "cp1252", "iso8859-9": "cp1254", "iso8859-11": "cp874", "tis-620": "cp874",
    "shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030",
}  # fmt: skip
"""Declared encodings, and the larger ones that browsers read them as."""


def decode(data: bytes, document: Builder | None = None, *, declared: str = "") -> str:
    """Text of ``data``. A guessed encoding is noted on ``document``.

    Raises:
        ConversionError: no encoding fits.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return _strict(data, name, document)
    if _JAPANESE_ESCAPE.search(data[:100_000]):
        with contextlib.suppress(UnicodeDecodeError):
            text = _text(data, "iso2022_jp", document)
            _note(document, "iso2022_jp")
            return text
    try:
        return _text(data, "utf-8", document)
    except UnicodeDecodeError as error:
        cut_end = error.reason == "unexpected end of data" and len(data) - error.start < 4
        # Without another character beyond ASCII, a last byte such as 0xE9 is more likely a letter of a legacy encoding.
        if cut_end and not data[: error.start].isascii():
            if document is not None:
                document.note("the file ends inside a UTF-8 character; its last bytes are left out")
            return _text(data[: error.start], "utf-8", document)
    match = _DECLARED.search(data[:2048])
    for name in (declared, match.group(1).decode("ascii") if match else "", _utf16_without_mark(data)):
        for usual in dict.fromkeys((_usual(name), name if name == declared else "")):
            with contextlib.suppress(UnicodeDecodeError, LookupError):
                if usual:
                    text = _text(data, usual, document)
                    _note(document, usual)
                    return text
    detected = detect(data)
    if detected is None:
        raise ConversionError("the encoding is unknown; name it with encoding=")
    _note(document, detected.encoding, detected.alternatives)
    return _text(data, detected.encoding, document)


def _text(data: bytes, name: str, document: Builder | None, errors: str = "strict") -> str:
    """The text, and on the document how it was decoded."""
    text = data.decode(name, errors)
    if document is not None:
        document.decoding = (name, errors, len(data))
    return text


def _note(document: Builder | None, name: str, alternatives: Sequence[str] = ()) -> None:
    if document is not None:
        uncertain = f" (uncertain: {', '.join(alternatives)} also fit; name it with encoding=)" if alternatives else ""
        document.note(f"decoded as {codecs.lookup(name).name}{uncertain}")


def decode_again(data: bytes, name: object, errors: object) -> str:
    """Text of bytes whose decoding a confined worker has found out.

    Raises:
        ValueError: the worker names no encoding of texts, or one that does not fit.
    """
    if not isinstance(name, str) or not _usual(name) or errors not in ("strict", "replace"):
        raise ValueError("not an encoding of texts")
    return data.decode(name, str(errors))


def _usual(name: str) -> str:
    """The encoding that is meant by a declared one; empty if it is not an encoding of texts.

    Some codecs of Python take quadratic time or decode escapes, and a file can declare any.
    """
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    return _MEANT.get(codec, codec) if _OF_TEXTS.fullmatch(codec) else ""


def _strict(data: bytes, name: str, document: Builder | None) -> str:
    try:
        return _text(data, name, document)
    except UnicodeDecodeError:
        if document is not None:
            document.note(f"bytes that are not {name} are shown as \ufffd")
        return _text(data, name, document, "replace")


def _utf16_without_mark(data: bytes) -> str:
    sample = data[:2000]
    if len(sample) < 4 or len(data) % 2:
        return ""
    odd, even = sample[1::2].count(0), sample[0::2].count(0)
    if odd > 0.4 * len(sample) / 2 and even < odd / 4:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 * len(sample) / 2 and odd < even / 4 else ""
