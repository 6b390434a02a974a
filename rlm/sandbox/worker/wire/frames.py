"""Frames: encodes messages as bytes and decodes them. Pure: no sockets, no clock.

    frame    = header length (u32) | body length (u32) | header, a JSON object with a type "t" | body, raw bytes
    message  = one frame, or several: frames of type "part" whose bodies come before that of the frame that ends it

Both ends use this file, and neither trusts the other: every length is checked before memory is allocated for it. This module
must not know the meaning of messages.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFIX = struct.Struct(">II")
MAX_HEADER_BYTES = 64 * 1024  # a header holds names and lengths, never text
MAX_BODY_BYTES = 64 * 1024 * 1024
PART_BYTES = 4 * 1024 * 1024  # small enough that a writer need not hold a second copy of a large body
PART = "part"
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_DECODER = json.JSONDecoder()


class WireError(ValueError):
    """The bytes are not frames, or a frame exceeds a limit."""


class Message(NamedTuple):
    """A header with a type, and a body. ``header["t"]`` is always a str."""

    header: dict[str, object]
    body: bytes | bytearray

    @property
    def type(self) -> str:
        return str(self.header["t"])


def encode_text(text: str) -> bytes:
    """UTF-8 that also encodes lone surrogates, so that every ``str`` round-trips."""
    return text.encode("utf-8", "surrogatepass")


def decode_text(data: bytes | bytearray) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise WireError(f"text is not UTF-8: {error}") from None


def pack(header: dict[str, object], body: bytes = b"") -> bytes:
    """Encodes one frame."""
    head = _ENCODER.encode(header).encode("ascii")
    if len(head) > MAX_HEADER_BYTES or len(body) > MAX_BODY_BYTES:
        raise WireError(f"frame too large: header {len(head)}, body {len(body)} bytes")
    return PREFIX.pack(len(head), len(body)) + head + body


def pack_message(header: dict[str, object], body: bytes) -> Iterator[bytes]:
    """Encodes one message of any size, as frames."""
    view, start = memoryview(body), 0
    while len(body) - start > PART_BYTES:
        yield pack({"t": PART}, bytes(view[start : start + PART_BYTES]))
        start += PART_BYTES
    yield pack(header, bytes(view[start:]) if start else body)


def _read_header(data: bytes) -> dict[str, object]:
    try:
        text = data.decode("utf-8")
        header, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"header is not JSON: {error}") from None
    if end != len(text):
        raise WireError("header is not JSON: trailing data")
    if not isinstance(header, dict) or not isinstance(header.get("t"), str):
        raise WireError("header is not an object with a type")
    return header


class Decoder:
    """Decodes a stream of bytes to whole messages. After a WireError it must not be used again."""

    def __init__(self, max_message_bytes: int | None = None, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.max_message_bytes = max_message_bytes
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._parts = bytearray()
        self.frames = 0  # in the data fed last

    def feed(self, data: bytes | bytearray) -> list[Message]:
        """Decodes the messages that ``data`` completes.

        Raises:
            WireError: a length exceeds its limit, or a header is malformed.
        """
        if self._buffer:
            self._buffer += data
            data = self._buffer
        messages: list[Message] = []
        self.frames = 0
        start, size = 0, len(data)
        while size - start >= PREFIX.size:
            head_len, body_len = PREFIX.unpack_from(data, start)
            self._check(head_len, body_len)
            body_at = start + PREFIX.size + head_len
            end = body_at + body_len
            if size < end:
                break
            header = _read_header(bytes(data[start + PREFIX.size : body_at]))
            start = end
            self.frames += 1
            if header["t"] == PART:
                self._parts += memoryview(data)[body_at:end]
            else:
                messages.append(Message(header, self._whole_body(data, body_at, end)))
        if data is self._buffer:
            del self._buffer[:start]
        elif start < size:  # whole frames arrive most often, and leave nothing to buffer
            self._buffer += memoryview(data)[start:]
        return messages

    @property
    def buffered_bytes(self) -> int:
        """Size of an incomplete message."""
        return len(self._buffer) + len(self._parts)

    def _whole_body(self, data: bytes | bytearray, body_at: int, end: int) -> bytes | bytearray:
        if not self._parts:
            return bytes(memoryview(data)[body_at:end])
        self._parts += memoryview(data)[body_at:end]
        body, self._parts = self._parts, bytearray()
        return body

    def _check(self, head_len: int, body_len: int) -> None:
        if head_len > MAX_HEADER_BYTES or body_len > self._max_body_bytes:
            raise WireError(f"frame too large: header {head_len}, body {body_len} bytes")
        if self.max_message_bytes is not None and len(self._parts) + body_len > self.max_message_bytes:
            raise WireError(f"message larger than {self.max_message_bytes} bytes")
