"""Whether a failed call is worth another attempt, and when. Decides; never waits."""

from __future__ import annotations

from dataclasses import dataclass

from rlm.core.errors import (
    EmptyReplyError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnavailableError,
    RateLimitedError,
)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``retries`` attempts may follow the first one; ``odd_reply_retries`` where a whole but unusable reply came.

    Delays double from ``first_delay_s`` up to ``max_delay_s``; a provider's Retry-After counts up to ``max_retry_after_s``,
    and beyond it the call fails instead of waiting.
    """

    retries: int = 5
    odd_reply_retries: int = 2
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_retry_after_s: float = 120.0


def plan_retry(error: ModelError, attempt: int, policy: RetryPolicy, jitter: float) -> float | None:
    """Seconds until the next attempt, or None to give up. ``attempt`` counts from 1; ``jitter`` is from 0 to 1."""
    odd_reply = isinstance(error, EmptyReplyError | MalformedReplyError)
    allowed = min(policy.retries, policy.odd_reply_retries) if odd_reply else policy.retries
    if not error.retryable or attempt > allowed:
        return None
    if error.retry_after_s is not None:
        if error.retry_after_s > policy.max_retry_after_s:
            return None
        return error.retry_after_s + jitter * min(1.0, policy.first_delay_s)
    delay = min(policy.max_delay_s, policy.first_delay_s * 2.0 ** (attempt - 1))
    return delay * (0.5 + jitter / 2)


def is_pushback(error: ModelError) -> bool:
    """Whether a failure says that fewer calls should be in flight."""
    return isinstance(error, RateLimitedError | ModelTimeoutError) or (
        isinstance(error, ProviderUnavailableError) and error.status in (503, 529)
    )
