"""Reads the header of a GGUF file: the model's architecture, name and context window.

Only the key-value pairs at the start are read, never a tensor. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, TypeAlias

from rlm.core.values import frozen

MAGIC = b"GGUF"
MAX_PAIRS = 10_000  # real files have about 30
MAX_BYTES = 1 << 28  # of one string or array: a vocabulary of 250,000 tokens takes 5 MB

_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

Scalar: TypeAlias = str | int | float | bool | None


@frozen
class GgufHead:
    """Metadata of a model file. ``context_tokens`` is None if the file does not state it."""

    architecture: str
    name: str
    context_tokens: int | None


def read_head(path: Path) -> GgufHead:
    """The metadata in the header of a file.

    Raises:
        ValueError: the file is damaged, or has another format.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ValueError("it does not begin with the letters GGUF")
        version, _tensors, pairs = struct.unpack("<IQQ", _take(file, 20))
        if version not in (2, 3) or pairs > MAX_PAIRS:
            raise ValueError(f"its header is damaged or of an unknown version ({version})")
        pairs_by_key: dict[str, Scalar] = {}
        for _ in range(pairs):
            key = _read_string(file)
            pairs_by_key[key] = _read_value(file, _read_number(file, "I"))
    architecture = str(pairs_by_key.get("general.architecture", ""))
    context = pairs_by_key.get(f"{architecture}.context_length")
    return GgufHead(
        architecture, str(pairs_by_key.get("general.name", "")), context if isinstance(context, int) else None
    )


def _read_value(file: BinaryIO, kind: int) -> Scalar:
    if kind == _STRING:
        return _read_string(file)
    if kind != _ARRAY:
        return _read_number(file, _number_code(kind))
    # Arrays are vocabularies, which are not needed; they have no length in bytes, so each item is skipped.
    item = int(_read_number(file, "I"))
    count = int(_read_number(file, "Q"))
    if item == _STRING:
        for _ in range(count):
            _skip(file, int(_read_number(file, "Q")))
    else:
        _skip(file, count * struct.calcsize("<" + _number_code(item)))
    return None


def _number_code(kind: int | float) -> str:
    code = _NUMBERS.get(int(kind))
    if code is None:
        raise ValueError(f"its header holds a value of unknown type {kind}")
    return code


def _read_number(file: BinaryIO, code: str) -> int:
    value: int = struct.unpack("<" + code, _take(file, struct.calcsize("<" + code)))[0]
    return value


def _read_string(file: BinaryIO) -> str:
    return _take(file, _read_number(file, "Q")).decode("utf-8", "replace")


def _take(file: BinaryIO, size: int) -> bytes:
    if size > MAX_BYTES:
        raise ValueError("its header holds a value of impossible size")
    data = file.read(size)
    if len(data) != size:
        raise ValueError("it ends inside its header")
    return data


def _skip(file: BinaryIO, size: int) -> None:
    if size > MAX_BYTES:
        raise ValueError("its header holds a value of impossible size")
    file.seek(size, 1)
