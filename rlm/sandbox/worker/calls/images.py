"""The ``images`` argument of the query functions: checked, and put beside the context of each prompt."""

from __future__ import annotations

from collections.abc import Iterable

from ..wire.images import MAX_IMAGES, ImageHandle, ImageQuery
from ..wire.values import type_name


def with_images(context: object, images: object) -> object:
    """The data of one query: ``context``, with the images if there are any."""
    ids = _ids_of(images)
    return ImageQuery(context, context is not None, ids) if ids else context


def batch_with_images(prompts: Iterable[object], context: object, images: object) -> tuple[Iterable[object], object]:
    """Prompts and data of a batch. Lists of images as long as the batch give each prompt its own."""
    if images is None:
        return prompts, context
    prompts = list(prompts)
    each = isinstance(images, (list, tuple)) and any(isinstance(item, (list, tuple)) for item in images)
    if each and len(images) != len(prompts):  # type: ignore[arg-type]
        raise ValueError(f"images has {len(images):,} lists for {len(prompts):,} prompts")  # type: ignore[arg-type]
    own = context if isinstance(context, list) and len(context) == len(prompts) else [context] * len(prompts)
    shown = list(images) if each else [images] * len(prompts)  # type: ignore[call-overload]
    return prompts, [with_images(data, some) for data, some in zip(own, shown, strict=True)]


def _ids_of(images: object) -> tuple[str, ...]:
    if images is None:
        return ()
    if isinstance(images, ImageHandle):
        return (images.id,)
    if not isinstance(images, (list, tuple)):
        raise TypeError(f"images must be a list of images of the input, not {type_name(images)}")
    for item in images:
        if not isinstance(item, ImageHandle):
            raise TypeError(f"images must hold images of the input, not {type_name(item)}")
    if len(images) > MAX_IMAGES:
        raise ValueError(f"images must be at most {MAX_IMAGES} for a prompt; got {len(images):,}")
    return tuple(item.id for item in images)
