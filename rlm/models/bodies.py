"""Bounded reading of response bodies: compressed or not, a body takes at most a fixed amount of memory. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

# Replies with 100,000 tokens take 1 MB. Parsing holds the loop: 16 MB of text take some 20 ms.
MAX_REPLY_BYTES = 16 << 20
MAX_STREAM_BYTES = 64 << 20  # some servers send 500 bytes around each token
MAX_ERROR_BYTES = 256 << 10  # the rest of a longer error page is not read
_PIECE_BYTES = 256 << 10

ACCEPTED_ENCODINGS = "gzip, deflate"


class BodyError(ValueError):
    """A body cannot be read."""


class BodyTooLargeError(BodyError):
    """A body exceeds its limit."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"a reply of more than {limit >> 20} MiB")


class BodyEncodingError(BodyError):
    """A body is compressed in an unknown form, or damaged."""


class BodyDecoder:
    """Decompresses one body in pieces of bounded size.

    Args:
        encoding: the header ``Content-Encoding``.
        limit: the maximum number of decompressed bytes.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._limit = limit
        self._size = 0
        self._first = True
        names = [
            name for name in (part.strip().lower() for part in encoding.split(",")) if name not in {"", "identity"}
        ]
        if len(names) > 1 or not set(names) <= {"gzip", "x-gzip", "deflate"}:
            raise BodyEncodingError(f"a reply in the encoding {encoding[:80]!r}, which was not accepted")
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32) if names else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The decompressed bytes, piece by piece.

        Raises:
            BodyTooLargeError: they exceed the limit.
            BodyEncodingError: the data is damaged.
        """
        if self._inflate is None:
            yield self._count(data)
            return
        try:
            if self._first and data[0] & 0x0F != 8 and data[:1] != b"\x1f":
                self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # "deflate" without its header
            self._first = False
            while data and not self._inflate.eof:
                yield self._count(self._inflate.decompress(data, _PIECE_BYTES))
                data = self._inflate.unconsumed_tail
        except zlib.error as error:
            raise BodyEncodingError(f"a reply with damaged compression ({error})") from None

    def _count(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > self._limit:
            raise BodyTooLargeError(self._limit)
        return piece
