"""JSON as lenient as providers need: split characters, byte order marks, and text that breaks inside an emoji. Pure."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

import orjson

_LONE = re.compile("[\ud800-\udfff]")
_BYTES = re.compile("[\udc80-\udcff]+")


def load_json(data: bytes) -> Any:
    """Parses JSON, also with lone surrogates or damaged UTF-8; ``join_halves`` repairs its text.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        text = data.decode("utf-8-sig", "surrogateescape")
    if not _LONE.search(text) and "\\ud" not in text.lower() and not data.startswith(codecs.BOM_UTF8):
        raise ValueError("not JSON")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def join_halves(text: str) -> tuple[str, str]:
    """The text with split characters joined, and the part at its end that the next piece can complete."""
    if text.isascii() or not _LONE.search(text):
        return text, ""
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    held = ""

    def decode(match: re.Match[str]) -> str:
        nonlocal held
        is_last = match.end() == len(text)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        decoded = decoder.decode(match.group().encode("utf-8", "surrogateescape"), final=not is_last)
        if is_last:
            held = decoder.getstate()[0].decode("utf-8", "surrogateescape")
        return decoded

    joined = _BYTES.sub(decode, text)
    if not held and joined and "\ud800" <= joined[-1] <= "\udbff":
        joined, held = joined[:-1], joined[-1]
    return _LONE.sub("\ufffd", joined), held
