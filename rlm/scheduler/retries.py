"""Retry decisions: which failures are worth another attempt, and after which delay. Decides only: never waits."""

from __future__ import annotations

from rlm.core.errors import (
    EmptyReplyError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnavailableError,
    RateLimitedError,
)
from rlm.core.values import frozen


@frozen
class RetryPolicy:
    """Limits on retries and their delays.

    Attributes:
        retries: attempts that can follow the first one.
        odd_reply_retries: the same, after a complete but unusable reply.
        first_delay_s: before the first retry. Delays double from here.
        max_delay_s: the longest delay without a Retry-After.
        max_retry_after_s: a call whose provider asks for a longer delay fails instead of waiting.
    """

    retries: int = 5
    odd_reply_retries: int = 2
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_retry_after_s: float = 120.0


def plan_retry(error: ModelError, attempt: int, policy: RetryPolicy, jitter: float) -> float | None:
    """Delay before the next attempt in seconds, or None to give up.

    Args:
        attempt: the attempt that failed, counted from 1.
        jitter: from 0 to 1.
    """
    odd_reply = isinstance(error, EmptyReplyError | MalformedReplyError)
    allowed = min(policy.retries, policy.odd_reply_retries) if odd_reply else policy.retries
    if not error.retryable or attempt > allowed:
        return None
    if error.retry_after_s is not None:
        if error.retry_after_s > policy.max_retry_after_s:
            return None
        return error.retry_after_s + jitter * min(1.0, policy.first_delay_s)
    delay_s = min(policy.max_delay_s, policy.first_delay_s * 2.0 ** (attempt - 1))
    return delay_s * (0.5 + jitter / 2)


def is_pushback(error: ModelError) -> bool:
    """Return True if the provider asks for fewer calls in flight."""
    return isinstance(error, RateLimitedError | ModelTimeoutError) or (
        isinstance(error, ProviderUnavailableError) and error.status in (503, 529)
    )
