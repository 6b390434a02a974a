"""Facts about a model that its adapter declares and the engine plans with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Static facts about one model.

    Attributes:
        window_tokens: the context window: prompt and reply together.
        slots: calls that the model processes at once; None if only the scheduler limits them.
        prefix_tokens: the shortest shared prefix that its provider caches; 0 if a shared prefix saves nothing; None if unknown.
        streams: the model has ``stream``.
        images: requests can hold images.
        endpoint: identifies address and key; models with the same endpoint and name share limits. Empty for other models.
    """

    window_tokens: int
    slots: int | None = None
    prefix_tokens: int | None = None
    streams: bool = False
    images: bool = False
    endpoint: str = ""
