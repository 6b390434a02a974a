"""Images on the wire: a handle in place of the pixels, and the images that a query shows to a model. Pure."""

from __future__ import annotations

MAX_IMAGES = 64  # of one query
_MAX_TEXT = 300
_MAX_NUMBER = 2**53


class ImageHandle:
    """An image of the input, without its pixels. ``llm_query(prompt, images=[image])`` shows it to a model.

    Attributes:
        id: the hash of its contents.
        name: its file name, or a number if it has none.
        media_type: for instance ``"image/png"``.
        size: bytes of the file.
        width, height: pixels; 0 if unknown.
        source: the image itself, on the host only; never sent.
    """

    __slots__ = ("height", "id", "media_type", "name", "size", "source", "width")

    id: str
    name: str
    media_type: str
    size: int
    width: int
    height: int
    source: object

    def __init__(  # noqa: PLR0917
        self, id: str, name: str, media_type: str, size: int, width: int = 0, height: int = 0, source: object = None
    ) -> None:
        values = (height, id, media_type, name, size, source, width)
        for field, value in zip(ImageHandle.__slots__, values, strict=True):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("an image cannot be changed")

    def __repr__(self) -> str:
        pixels = f", {self.width}x{self.height}" if self.width else ""
        return f"<image {self.name!r}: {self.media_type}{pixels}, {self.size:,} bytes, id {self.id[:8]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageHandle) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[object, ...]:
        return ImageHandle, (self.id, self.name, self.media_type, self.size, self.width, self.height)

    def to_wire(self) -> list[object]:
        return [self.id, self.name, self.media_type, self.size, self.width, self.height]


class ImageQuery:
    """The data of a query with images: its own ``context`` if it has one, and the ids of its images."""

    __slots__ = ("context", "has_context", "ids")

    def __init__(self, context: object, has_context: bool, ids: tuple[str, ...]) -> None:
        self.context = context
        self.has_context = has_context
        self.ids = ids


def read_handle(items: object) -> ImageHandle:
    """A handle from the wire. Raises ValueError, TypeError."""
    fields = _a_list(items, 6)
    texts = [item for item in fields[:3] if isinstance(item, str) and len(item) <= _MAX_TEXT]
    counts = [number for number in fields[3:] if type(number) is int and 0 <= number < _MAX_NUMBER]
    if len(texts) != 3 or len(counts) != 3:
        raise ValueError("malformed image")
    return ImageHandle(texts[0], texts[1], texts[2], counts[0], counts[1], counts[2])


def read_query(items: object) -> ImageQuery:
    """The data of a query from the wire. Raises ValueError, TypeError."""
    has_context, context, ids = _a_list(items, 3)
    if not isinstance(has_context, bool) or not isinstance(ids, list) or not 0 < len(ids) <= MAX_IMAGES:
        raise ValueError("malformed images of a query")
    if not all(isinstance(id_, str) and len(id_) <= _MAX_TEXT for id_ in ids):
        raise ValueError("malformed image")
    return ImageQuery(context, has_context, tuple(ids))


def _a_list(items: object, length: int) -> list[object]:
    if not isinstance(items, list) or len(items) != length:
        raise TypeError("malformed image")
    return items
