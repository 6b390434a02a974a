"""Retry decisions: which failures are worth another attempt, and after which delay. Decides only: never waits."""

from __future__ import annotations

from dataclasses import dataclass

from rlm.core.errors import (
    EmptyReplyError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
    RateLimitedError,
)
from rlm.core.values import frozen


@frozen
class RetryPolicy:
    """Limits on retries and their delays.

    Attributes:
        retries: attempts that can follow a failure that is not a refusal of load. 0 turns off all retries.
        retry_seconds: time for which a call is retried while the provider refuses load (429, 503).
        odd_reply_retries: attempts that can follow a complete but unusable reply.
        hopeless_retries: attempts that can follow a failure that rarely passes: no server at a local address, an unknown host.
        first_delay_s: before the first retry. Delays double from here.
        max_delay_s: the longest delay without a Retry-After.
        max_refused_delay_s: the longest after a refusal. The lane has pauses of its own.
    """

    retries: int = 5
    retry_seconds: float = 300.0
    odd_reply_retries: int = 2
    hopeless_retries: int = 1
    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_refused_delay_s: float = 2.0

    @property
    def patience_s(self) -> float:
        """Time for which refused calls are retried."""
        return self.retry_seconds if self.retries else 0.0


@dataclass(slots=True)
class Failures:
    """The failed attempts of one call.

    Attributes:
        refusals: by rate limits and overload.
        refused_since: the time of the first of them.
        others: all other failures.
        cut: those among them that met their deadline.
    """

    refusals: int = 0
    refused_since: float = 0.0
    others: int = 0
    cut: int = 0


def plan_retry(
    error: ModelError, past: Failures, policy: RetryPolicy, jitter: float, refused_s: float = 0.0
) -> float | None:
    """Delay before the next attempt in seconds, or None to give up.

    Args:
        past: the failures of the call, this one included.
        jitter: from 0 to 1.
        refused_s: seconds for which the provider has refused this call, or all calls.
    """
    if not error.retryable:
        return None
    if is_refusal(error):
        nth, longest_s = past.refusals, policy.max_refused_delay_s
    elif past.others > _allowed(error, policy):
        return None
    else:
        nth, longest_s = past.others, policy.max_delay_s
    if error.retry_after_s is not None:
        delay_s = error.retry_after_s + jitter * min(1.0, policy.first_delay_s)
    else:
        delay_s = min(longest_s, policy.first_delay_s * 2.0 ** (nth - 1)) * (0.5 + jitter / 2)
    if is_refusal(error) and refused_s + delay_s > policy.patience_s:
        return None
    return delay_s


def _allowed(error: ModelError, policy: RetryPolicy) -> int:
    """Retries after failures that are not refusals."""
    match error:
        case EmptyReplyError() | MalformedReplyError():
            return min(policy.retries, policy.odd_reply_retries)
        case ProviderUnreachableError(hopeless=True):
            return min(policy.retries, policy.hopeless_retries)
        case _:
            return policy.retries


def is_refusal(error: ModelError) -> bool:
    """Return True if the provider asks for fewer calls. A timeout says nothing about load."""
    return isinstance(error, RateLimitedError) or (
        isinstance(error, ProviderUnavailableError) and error.status in (503, 529)
    )


def is_answer(error: ModelError) -> bool:
    """Return True if the provider worked on the request, although there is no usable reply."""
    if isinstance(error, ModelTimeoutError | ProviderUnreachableError):
        return False
    return error.status is None or error.status < 500
