"""``Image``: an image in the input, and the images of a context by their ids."""

from __future__ import annotations

import os
from hashlib import blake2b
from importlib import import_module
from pathlib import Path
from typing import Any

from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, ContextError
from rlm.core.image_size import image_size, image_type
from rlm.core.messages import Image as ImagePart
from rlm.runtime.loop import BACKGROUND
from rlm.sandbox.worker.wire.images import ImageHandle

MAX_IMAGE_BYTES = 20_000_000
"""Bytes of one image. Providers accept between 5 and 20 MB."""

_MAX_DEPTH = 200


class Image(ImageHandle):
    """An image for a context, alone or in lists and dicts: PNG, JPEG, GIF or WebP.

        engine.run("What does the chart show?", rlm.Image("chart.png"))

    In the REPL it is a handle with name, type and size. ``llm_query(prompt, images=[image])`` shows it to a model.

    Args:
        source: a path, the bytes of a file, or an ``http(s)`` address, which is downloaded now.
        name: for models and people; the file's name by default.

    Raises:
        ContextError: it cannot be read, is too large, or is not an image of these types.
        ConfigurationError: ``source`` is something else.
    """

    __slots__ = ()

    def __init__(self, source: str | os.PathLike[str] | bytes, *, name: str | None = None) -> None:
        data, own_name = _read(source)
        media_type = image_type(data)
        if media_type is None:
            raise ContextError(f"{own_name} is not a PNG, JPEG, GIF or WebP image. Convert it first.")
        if len(data) > MAX_IMAGE_BYTES:
            raise ContextError(
                f"{own_name} has {len(data):,} bytes; an image can have {MAX_IMAGE_BYTES:,}. Scale it down."
            )
        digest = blake2b(data, digest_size=16).hexdigest()
        width, height = image_size(data)
        super().__init__(
            digest, (name or own_name)[:300], media_type, len(data), width, height, ImagePart(media_type, data)
        )

    def __reduce__(self) -> tuple[object, ...]:
        part = self.source
        return _restore, (part.data if isinstance(part, ImagePart) else b"", self.name)


def find_images(context: PlainValue) -> dict[str, ImagePart]:
    """The images of a context, by id."""
    found: dict[str, ImagePart] = {}
    _collect(context, found, _MAX_DEPTH)
    return found


def _collect(value: object, found: dict[str, ImagePart], depth: int) -> None:
    if isinstance(value, ImageHandle):
        if isinstance(value.source, ImagePart):
            found[value.id] = value.source
        return
    items = value.values() if type(value) is dict else value if type(value) in (list, tuple) else ()
    if depth and not set(map(type, items)) <= {str, int, float, bool, bytes, type(None)}:  # type: ignore[call-overload]
        for item in items:  # type: ignore[attr-defined]
            _collect(item, found, depth - 1)


def _read(source: object) -> tuple[bytes, str]:
    if isinstance(source, bytes | bytearray):
        return bytes(source), "image"
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        downloads: Any = import_module("rlm.documents.download")  # its HTTP client takes long to load
        data, _ = BACKGROUND.wait(downloads.download(source, max_bytes=MAX_IMAGE_BYTES))
        return data, source.partition("?")[0].rstrip("/").rpartition("/")[2] or "image"
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        try:
            with path.open("rb") as file:
                return file.read(MAX_IMAGE_BYTES + 1), path.name
        except OSError as error:
            raise ContextError(f"{path} cannot be read: {error.strerror}.") from None
    raise ConfigurationError(f"`source` of an Image must be a path, bytes or an address; got {type(source).__name__}.")


def _restore(data: bytes, name: str) -> Image:
    return Image(data, name=name)
