"""Defects in the code of models that users write: exceptions of other kinds, and malformed replies."""

from __future__ import annotations

import math
from typing import Any

from rlm.core.errors import MalformedReplyError, ModelError, ModelTimeoutError, RLMError
from rlm.core.messages import Reply, Usage
from rlm.ports import Model

MAX_TOKENS = 10**12
"""Far above every window: a larger count is a defect of the model's code."""
_COUNTS = ("calls", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def check_reply(model: Model, reply: Reply) -> Reply:
    """The reply itself.

    Raises:
        MalformedReplyError: the model returned something else than a usable Reply.
    """
    if (fault := _find_fault(reply)) is not None:
        raise MalformedReplyError(
            f"{model.name} returned {fault}. The code of a model must return an rlm.Reply.", model=model.name
        )
    return reply


def translate(model: Model, error: Exception) -> Exception:
    """The error of the package's tree for an exception that a model raised. An AssertionError stays: it is that of a test."""
    if isinstance(error, RLMError | AssertionError):
        return error
    kind = ModelTimeoutError if isinstance(error, TimeoutError) else ModelError
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  its own __str__ fails
        text = type(error).__name__
    translated = kind(f"{model.name} raised {text}. The code of a model must raise rlm.ModelError.", model=model.name)
    translated.__cause__ = error
    return translated


def _find_fault(reply: object) -> str | None:
    if not isinstance(reply, Reply):
        return f"a {type(reply).__name__}"
    parts: tuple[Any, ...] = (reply.text, reply.model, reply.usage, reply.cost_usd)
    text, name, usage, cost = parts
    if not isinstance(text, str) or not isinstance(name, str):
        return "a Reply whose text or model is not text"
    if not isinstance(usage, Usage):
        return f"a Reply whose usage is a {type(usage).__name__}"
    for count_name in _COUNTS:
        count = getattr(usage, count_name)
        if type(count) is not int or not 0 <= count <= MAX_TOKENS:
            return f"a Reply whose usage has {count_name} that is not a count of tokens"
    if cost is not None and not (isinstance(cost, int | float) and math.isfinite(cost) and cost >= 0):
        return "a Reply whose cost is not a number of dollars"
    return None
