"""Adapter for models that users write: from a name, a window and ``ask`` it makes a complete ``Model``."""

from __future__ import annotations

from typing import Protocol, cast

from rlm.core.errors import ConfigurationError
from rlm.core.messages import Reply, Request
from rlm.core.model_info import ModelInfo
from rlm.models.images import check_images
from rlm.ports import Model, OnText, StreamingModel


class MinimalModel(Protocol):
    """The least that a user's model must have.

    Optional: ``slots`` and ``prefix_tokens`` (see ``ModelInfo``), ``stream`` (see ``rlm.ports.StreamingModel``), ``aclose``.
    """

    @property
    def name(self) -> str: ...

    @property
    def window_tokens(self) -> int: ...

    async def ask(self, request: Request) -> Reply: ...


def adapt_model(model: Model | MinimalModel) -> Model:
    """The model itself if it implements the port; otherwise a wrapper with its missing parts.

    Raises:
        ConfigurationError: it lacks a name, a window or ``ask``.
    """
    if isinstance(getattr(model, "info", None), ModelInfo) and hasattr(model, "aclose"):
        return cast("Model", model)
    return AdaptedModel(model)


def implementation(model: Model) -> type[object]:
    """The class that answers: of a wrapped model, the user's own."""
    return type(model.inner) if isinstance(model, AdaptedModel) else type(model)


class AdaptedModel:
    """A user's model with the parts of the port that it lacks. ``inner`` is the user's object."""

    def __init__(self, inner: Model | MinimalModel) -> None:
        for part in ("name", "ask"):
            if not hasattr(inner, part):
                raise ConfigurationError(
                    "`model` must be a model's name, or an object with `name`, `ask` and `info` (or `window_tokens`); "
                    f"got {type(inner).__name__} without `{part}`. See rlm.ports.Model"
                )
        self.inner = inner
        self.name = inner.name
        self.info = _read_info(inner)

    def __repr__(self) -> str:
        return repr(self.inner)

    async def ask(self, request: Request) -> Reply:
        """See ``rlm.ports.Model.ask``."""
        check_images(self.name, self.info.images, request.messages)
        return await self.inner.ask(request)

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """See ``rlm.ports.StreamingModel.stream``; only called if ``info.streams``."""
        return await cast("StreamingModel", self.inner).stream(request, on_text)

    async def aclose(self) -> None:
        """Closes the user's model if it can be closed."""
        close = getattr(self.inner, "aclose", None)
        if close is not None:
            await close()


def _read_info(inner: Model | MinimalModel) -> ModelInfo:
    info = getattr(inner, "info", None)
    if isinstance(info, ModelInfo):
        return info
    window = getattr(inner, "window_tokens", None)
    if not isinstance(window, int) or window <= 0:
        raise ConfigurationError(
            f"`window_tokens` of {inner.name} must be a positive number of tokens; got {window!r}. "
            "Set it to the model's context window"
        )
    return ModelInfo(
        window,
        slots=getattr(inner, "slots", None),
        prefix_tokens=getattr(inner, "prefix_tokens", None),
        streams=hasattr(inner, "stream"),
    )
