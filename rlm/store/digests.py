"""Hashes of contexts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import cast

from rlm.core.cells import PlainValue
from rlm.core.plain_repr import plain_repr
from rlm.core.sizes import in_steps

_SLICE_CHARS = 4_000_000
# The copy and the encoding of a piece hold the interpreter's lock, and with it the event loop; hashing does not.
_PIECE_CHARS = 64 * 1024
_FILE_BYTES = 1_000_000


def digest_context(value: PlainValue) -> tuple[int, str]:
    """Size in bytes (approximate unless it is text) and hash of a context, without a second copy of it."""
    digest = blake2b(digest_size=16)
    return _feed(digest, value), digest.hexdigest()


def _feed(digest: blake2b, value: object) -> int:
    if isinstance(value, str):
        return _feed_text(digest, value)
    if isinstance(value, bytes | bytearray):
        digest.update(b"b%d:" % len(value))
        digest.update(value)
        return len(value)
    if isinstance(value, dict):
        digest.update(b"d%d:" % len(value))
        return sum(_feed_step(digest, step) for step in in_steps(chain.from_iterable(value.items())))
    if isinstance(value, list | tuple):
        digest.update(b"l%d:" % len(value))
        return sum(_feed_step(digest, step) for step in in_steps(value))
    if isinstance(value, set | frozenset):
        return _feed(digest, sorted(map(plain_repr, value)))
    if hasattr(value, "fileno"):
        return _feed_file(digest, value.fileno())
    return _feed_text(digest, f"{type(value).__name__} {plain_repr(value)}")


def _feed_step(digest: blake2b, items: Sequence[object]) -> int:
    """Feeds some items. Texts are joined, because a step for each of millions would take microseconds."""
    if set(map(type, items)) != {str}:
        return sum(_feed(digest, item) for item in items)
    texts = cast("Sequence[str]", items)
    if sum(map(len, texts)) > _SLICE_CHARS:
        return sum(_feed_text(digest, text) for text in texts)
    heads = list(map("s%d:".__mod__, map(len, texts)))
    data = "".join(chain.from_iterable(zip(heads, texts, strict=True))).encode("utf-8", "surrogatepass")
    digest.update(data)
    return len(data) - sum(map(len, heads))


def _feed_file(digest: blake2b, descriptor: int) -> int:
    """Size, beginning and end of an open file, which can be larger than memory."""
    size = os.fstat(descriptor).st_size
    digest.update(b"f%d:" % size)
    for start in (0, max(size - _FILE_BYTES, 0)):
        digest.update(os.pread(descriptor, _FILE_BYTES, start))
    return size


def _feed_text(digest: blake2b, text: str) -> int:
    digest.update(b"s%d:" % len(text))
    size = 0
    for start in range(0, len(text), _PIECE_CHARS):
        data = text[start : start + _PIECE_CHARS].encode("utf-8", "surrogatepass")
        digest.update(data)
        size += len(data)
    return size
