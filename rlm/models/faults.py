"""Maps a provider's error response, by its HTTP status and error object, to the error tree. Pure.

Providers disagree on statuses (a bad key is 400 here, 401 there), so their error codes decide first, then their prose, then the
status. Quotations are cut, and anything that looks like a key is redacted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from rlm.core.errors import (
    AuthenticationError,
    ModelError,
    ModelNotFoundError,
    ModelTimeoutError,
    OutOfCreditError,
    PromptTooLongError,
    ProviderUnavailableError,
    RateLimitedError,
    RefusalError,
    RequestRejectedError,
)
from rlm.core.plain import dump_json
from rlm.core.values import frozen
from rlm.models.waits import read_body_wait, read_reset, read_retry_after

_QUOTE_CHARS = 500
_KEY_LIKE = re.compile(r"\b(?:sk|gsk|xai|pplx|fw|AIza|r8|hf|key)[-_][\w*.-]{6,}|\bAIza[\w*-]{10,}")


@frozen
class Source:
    """The origin of an error: the model's full name, its address, its key (to redact), and the key's variable."""

    model: str
    address: str
    api_key: str | None
    key_variable: str | None

    @property
    def key_advice(self) -> str:
        return f"Set {self.key_variable} to a valid key" if self.key_variable else "Pass a valid api_key"


@frozen
class ErrorBody:
    """An error object.

    Attributes:
        message: can be empty.
        words: its code and type, in lower case.
        status: an HTTP status inside the object.
        parameters: names or paths of the request's parameters that it refuses.
        delay_s: the wait that it asks for.
    """

    message: str
    words: frozenset[str]
    status: int | None = None
    parameters: tuple[str, ...] = ()
    delay_s: float | None = None


# Providers' own codes and types, checked in this order: the more specific meaning first.
_BY_WORD: tuple[tuple[frozenset[str], type[ModelError]], ...] = (
    (
        frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error"}),
        OutOfCreditError,
    ),
    (
        frozenset(
            {"context_length_exceeded", "exceed_context_size_error", "request_too_large", "string_above_max_length"}
        ),
        PromptTooLongError,
    ),
    (frozenset({"content_filter", "content_policy_violation", "moderation_blocked"}), RefusalError),
    (
        frozenset({"model_not_found", "model_not_available", "model_decommissioned", "not_found_error"}),
        ModelNotFoundError,
    ),
    (
        frozenset(
            {"invalid_api_key", "authentication_error", "permission_error", "permission_denied", "unauthenticated"}
        ),
        AuthenticationError,
    ),
    (frozenset({"rate_limit_exceeded", "rate_limit_error", "resource_exhausted"}), RateLimitedError),
    (frozenset({"overloaded_error", "api_error", "server_error", "unavailable"}), ProviderUnavailableError),
    (frozenset({"timeout_error"}), ModelTimeoutError),
)

_TOO_LARGE = re.compile(
    r"request (?:is |was )?too large|tokens must be reduced|reduce (?:your|the) (?:message|prompt|request|input) size",
    re.I,
)
_REQUESTED = re.compile(r"\blimit:? (\d[\d,]{0,14}),[^.]{0,60}\brequested:? (\d[\d,]{0,14})", re.I)

# For providers that only say it in prose. Applied to rejected requests (HTTP 400 and the like) only.
_BY_PROSE: tuple[tuple[re.Pattern[str], type[ModelError]], ...] = (
    (re.compile(r"credit balance|insufficient (balance|credit)", re.I), OutOfCreditError),
    (
        re.compile(
            r"context (length|window|size)|(prompt|input) is too long|reduce the length"
            r"|maximum.{0,20}tokens?.{0,40}exceed",
            re.I,
        ),
        PromptTooLongError,
    ),
    (re.compile(r"api key not valid|(incorrect|invalid) api.?key", re.I), AuthenticationError),
    (
        re.compile(r"model.{0,80}(not (found|exist)|does not exist|decommissioned)|not a valid model", re.I),
        ModelNotFoundError,
    ),
    (re.compile(r"content management policy|flagged|moderation", re.I), RefusalError),
)

_BY_STATUS: dict[int, type[ModelError]] = {
    401: AuthenticationError,
    402: OutOfCreditError,
    403: AuthenticationError,
    404: ModelNotFoundError,
    408: ModelTimeoutError,
    409: ProviderUnavailableError,
    413: PromptTooLongError,
    425: ProviderUnavailableError,
    429: RateLimitedError,
    504: ModelTimeoutError,
}


def read_fault(source: Source, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ModelError:
    """The typed error for a response whose status is not 2xx. ``now_s`` is the wall clock, for Retry-After dates."""
    if 300 <= status < 400:
        target = quote_provider(headers.get("Location") or "another address", source.api_key)
        return RequestRejectedError(
            f"{source.model}: {source.address} redirects to {target}. Use that address as the base URL",
            model=source.model,
            status=status,
        )
    error = read_error_body(body)
    asked_s = read_retry_after(headers, now_s)
    if asked_s is None:
        asked_s = error.delay_s if error.delay_s is not None else read_reset(headers, now_s)
    return make_fault(source, status, error, retry_after_s=asked_s)


def make_fault(source: Source, status: int, error: ErrorBody, *, retry_after_s: float | None = None) -> ModelError:
    """The typed error for an error object."""
    kind = _classify(status, error)
    quote = quote_provider(error.message, source.api_key)
    quotation = f" The provider says: {quote}" if quote else ""
    text = f"{source.model}: {_advice(kind, source, status)}.{quotation}"
    if retry_after_s is None:
        retry_after_s = error.delay_s
    return kind(text, model=source.model, status=status, retry_after_s=retry_after_s if kind.retryable else None)


def _classify(status: int, error: ErrorBody) -> type[ModelError]:
    if status >= 400 and _exceeds_limit(error.message):
        return PromptTooLongError
    for words, kind in _BY_WORD:
        if words & error.words:
            return kind
    if status in {400, 403, 404, 413, 422, 429}:
        for pattern, kind in _BY_PROSE:
            if (status != 429 or kind is OutOfCreditError) and pattern.search(error.message):
                return kind
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return ProviderUnavailableError if status >= 500 else RequestRejectedError


def _exceeds_limit(message: str) -> bool:
    """True if one request alone exceeds a limit of tokens per minute: no wait helps."""
    if _TOO_LARGE.search(message):
        return True
    match = _REQUESTED.search(message)
    return match is not None and int(match[2].replace(",", "")) > int(match[1].replace(",", ""))


def _advice(kind: type[ModelError], source: Source, status: int) -> str:
    if kind is AuthenticationError:
        return f"the key was not accepted (HTTP {status}). {source.key_advice}, or choose a model that it can use"
    if kind is ModelNotFoundError:
        return f"no such model at {source.address} (HTTP {status}). Check the model's name and the base URL"
    if kind is PromptTooLongError:
        return "the prompt does not fit the model's window. Send shorter pieces"
    if kind is OutOfCreditError:
        return f"the account has no credit or quota left (HTTP {status}). Add credit, or use another key or model"
    if kind is RateLimitedError:
        return "too many calls (HTTP 429). Lower the concurrency, or wait"
    if kind is RefusalError:
        return "the provider's filter refused the request. Change the prompt, or use another model"
    if kind is ModelTimeoutError:
        return f"the provider timed out (HTTP {status}). Usually a retry succeeds"
    if kind is ProviderUnavailableError:
        return f"the provider failed or is overloaded (HTTP {status}). Usually a retry succeeds"
    return f"the provider rejected the request (HTTP {status})"


def read_error_body(body: bytes) -> ErrorBody:
    """Reads an error body in any shape that providers use; any other body is its own message."""
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode(errors="replace")
        return ErrorBody(text, frozenset(), delay_s=read_body_wait({}, text))
    return read_error_object(data)


def read_error_object(data: Any) -> ErrorBody:
    """Reads an error object that is already parsed, with or without an ``error`` key around it."""
    if isinstance(data, list) and data:  # Gemini
        data = data[0]
    if not isinstance(data, dict):
        return ErrorBody(str(data) if data else "", frozenset())
    inner = data.get("error", data)
    if not isinstance(inner, dict):  # Ollama: {"error": "text"}
        return ErrorBody(str(inner), frozenset(), delay_s=read_body_wait(data, str(inner)))
    message = inner.get("message") or inner.get("detail") or data.get("message") or data.get("detail") or ""
    raw = (
        inner["metadata"].get("raw") if isinstance(inner.get("metadata"), dict) else None
    )  # OpenRouter: the error behind it
    text = message if isinstance(message, str) else dump_json(message)
    codes = [inner.get(name) for name in ("code", "type", "status")]
    words = frozenset(code.lower() for code in codes if isinstance(code, str))
    numbers = [code for code in codes if isinstance(code, int) and 400 <= code < 600]
    return ErrorBody(
        f"{text} {raw}" if isinstance(raw, str) else text,
        words,
        numbers[0] if numbers else None,
        tuple(_read_parameters(data, inner, message)),
        read_body_wait(data, text),
    )


def _read_parameters(data: Mapping[str, Any], inner: Mapping[str, Any], message: object) -> Iterator[str]:
    """Names of refused parameters: OpenAI's ``param``, FastAPI's ``loc``, Google's ``fieldViolations``."""
    if isinstance(inner.get("param"), str):
        yield inner["param"]
    nested = message.get("detail") if isinstance(message, dict) else None  # Mistral
    for rows in (data.get("detail"), inner.get("detail"), inner.get("details"), nested):
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, dict):
                continue
            if isinstance(row.get("loc"), list):
                yield ".".join(str(part) for part in row["loc"])
            for violation in row["fieldViolations"] if isinstance(row.get("fieldViolations"), list) else ():
                if isinstance(violation, dict) and isinstance(violation.get("field"), str):
                    yield violation["field"]


def quote_provider(text: str, api_key: str | None) -> str:
    """A provider's words, fit for an error message: on one line, cut, keys redacted, control characters escaped."""
    if api_key:
        text = text.replace(api_key, "[key]")
    text = _KEY_LIKE.sub("[key]", " ".join(text[: 4 * _QUOTE_CHARS].split()))
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= _QUOTE_CHARS else text[:_QUOTE_CHARS] + " ..."
