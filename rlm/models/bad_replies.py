"""Errors for replies that arrived with a success status and yet are no whole answer. Pure; shared by the adapters.

Such replies are billed, so the error carries their usage where it was reported.
"""

from __future__ import annotations

from rlm.core.errors import EmptyReplyError, MalformedReplyError, RefusalError, TruncatedReplyError
from rlm.core.messages import Usage
from rlm.models.faults import Speaker, quote_provider

_QUOTED_BYTES = 4_000


def refused(speaker: Speaker, text: str, usage: Usage) -> RefusalError:
    said = quote_provider(text, speaker.api_key) or "nothing"
    error = RefusalError(
        f"{speaker.model}: the model declined to answer. Change the prompt, or use another model. It says: {said}",
        model=speaker.model,
    )
    error.usage = usage
    return error


def truncated(speaker: Speaker, text: str, usage: Usage) -> TruncatedReplyError:
    hidden = f", {usage.reasoning_tokens} of them hidden reasoning" if usage.reasoning_tokens else ""
    error = TruncatedReplyError(
        f"{speaker.model}: the reply was cut by its token limit after {usage.output_tokens} tokens{hidden}. "
        "Raise max_output_tokens, or ask for less",
        text=text,
        model=speaker.model,
    )
    error.usage = usage
    return error


def empty(speaker: Speaker, reason: str, usage: Usage) -> EmptyReplyError:
    error = EmptyReplyError(f"{speaker.model}: the reply holds no text (it ended with {reason!r})", model=speaker.model)
    error.usage = usage
    return error


def malformed(speaker: Speaker, what: str, body: bytes, usage: Usage | None = None) -> MalformedReplyError:
    begins = quote_provider(body[:_QUOTED_BYTES].decode(errors="replace"), speaker.api_key) or "with nothing"
    error = MalformedReplyError(
        f"{speaker.model}: {what}. If it stays so, check that {speaker.address} speaks the API that this provider "
        f"name stands for. The reply begins: {begins}",
        model=speaker.model,
    )
    error.usage = usage
    return error
