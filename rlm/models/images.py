"""Image parts of requests: models that accept text only, and the encoding that both wire formats share. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence

from rlm.core.errors import ImagesNotSupportedError
from rlm.core.messages import Image, Message

# Closed families without image input. Any other model decides for itself: its provider rejects the request.
_TEXT_ONLY = re.compile(r"gpt-3\.5|gpt-4(-32k.*|-\d{4})?$|gpt-oss|o1-(mini|preview)|o3-mini")


def accepts_images(model_id: str) -> bool:
    """True unless the model, named without its provider, belongs to a family known to accept text only."""
    name = model_id.lower().rpartition("/")[2].removeprefix("ft:")
    return _TEXT_ONLY.match(name) is None


def check_images(model: str, accepted: bool, messages: Sequence[Message]) -> None:
    """Checks that the model accepts the images of a request, before anything is sent.

    Raises:
        ImagesNotSupportedError: it does not, or they are not in a user message.
    """
    for message in messages:
        if isinstance(message.content, str) or not message.images:
            continue
        if not accepted:
            raise ImagesNotSupportedError(
                f"{model} accepts text only; got a message with an image. It was not sent. Use a model with image input",
                model=model,
            )
        if message.role != "user":
            raise ImagesNotSupportedError(
                f"an image must be in a user message; got a {message.role} message. It was not sent", model=model
            )


def encode_base64(image: Image) -> str:
    return base64.b64encode(image.data).decode()
