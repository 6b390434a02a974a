"""Errors for replies with a success status that are not a complete answer. Pure; shared by the adapters.

Such replies are billed, so the error carries their usage if it was reported.
"""

from __future__ import annotations

from rlm.core.errors import EmptyReplyError, MalformedReplyError, RefusalError, TruncatedReplyError
from rlm.core.messages import Usage
from rlm.models.faults import Source, quote_provider

_QUOTED_BYTES = 4_000


def refused(source: Source, text: str, usage: Usage) -> RefusalError:
    quote = quote_provider(text, source.api_key) or "nothing"
    error = RefusalError(
        f"{source.model}: the model refused to answer. Change the prompt, or use another model. It says: {quote}",
        model=source.model,
    )
    error.usage = usage
    return error


def truncated(source: Source, text: str, usage: Usage) -> TruncatedReplyError:
    hidden = f", {usage.reasoning_tokens} of them hidden reasoning" if usage.reasoning_tokens else ""
    error = TruncatedReplyError(
        f"{source.model}: the reply was truncated by its token limit after {usage.output_tokens} tokens{hidden}. "
        "Raise max_output_tokens, or ask for less",
        text=text,
        model=source.model,
    )
    error.usage = usage
    return error


def empty(source: Source, reason: str, usage: Usage) -> EmptyReplyError:
    error = EmptyReplyError(
        f"{source.model}: the reply holds no text (it ended with {reason!r}). Usually a retry succeeds",
        model=source.model,
    )
    error.usage = usage
    return error


def malformed(source: Source, what: str, body: bytes, usage: Usage | None = None) -> MalformedReplyError:
    beginning = quote_provider(body[:_QUOTED_BYTES].decode(errors="replace"), source.api_key) or "with nothing"
    error = MalformedReplyError(
        f"{source.model}: {what}. If it persists, check that {source.address} implements the API of this provider name. "
        f"The reply begins: {beginning}",
        model=source.model,
    )
    error.usage = usage
    return error
