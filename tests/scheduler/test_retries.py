"""Retry decisions: which failures, how often, after which delay."""

from __future__ import annotations

import pytest

from rlm.core.errors import (
    AuthenticationError,
    EmptyReplyError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnavailableError,
    ProviderUnreachableError,
    RateLimitedError,
    RefusalError,
    TruncatedReplyError,
)
from rlm.scheduler.retries import RetryPolicy, is_pushback, plan_retry

POLICY = RetryPolicy(retries=5, odd_reply_retries=2, first_delay_s=1.0, max_delay_s=8.0, max_retry_after_s=60.0)


def test_delays_double_up_to_the_longest() -> None:
    delays = [plan_retry(ProviderUnreachableError("x"), attempt, POLICY, jitter=1.0) for attempt in range(1, 7)]
    assert delays == [1, 2, 4, 8, 8, None]


def test_jitter_spreads_over_half_of_the_delay() -> None:
    delays = [plan_retry(ProviderUnreachableError("x"), 3, POLICY, jitter) for jitter in (0.0, 0.5, 1.0)]
    assert delays == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("error", "retries"),
    [
        (AuthenticationError("x"), 0),
        (RefusalError("x"), 0),
        (TruncatedReplyError("x"), 0),
        (EmptyReplyError("x"), 2),
        (MalformedReplyError("x"), 2),
        (ModelTimeoutError("x"), 5),
        (RateLimitedError("x"), 5),
        (ProviderUnavailableError("x"), 5),
        (ProviderUnreachableError("x"), 5),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else type(value).__name__,
)
def test_retries_depend_on_the_failure(error: ModelError, retries: int) -> None:
    planned = [plan_retry(error, attempt, POLICY, 0.0) is not None for attempt in range(1, 10)]
    assert planned == [True] * retries + [False] * (9 - retries)


def test_retry_after_replaces_the_delay() -> None:
    error = RateLimitedError("x", retry_after_s=30.0)
    assert plan_retry(error, 1, POLICY, 0.0) == 30.0
    assert plan_retry(error, 5, POLICY, 1.0) == 31.0


def test_too_long_retry_after_fails_the_call() -> None:
    assert plan_retry(RateLimitedError("x", retry_after_s=61.0), 1, POLICY, 0.0) is None


@pytest.mark.parametrize(
    ("error", "pushes_back"),
    [
        (RateLimitedError("x"), True),
        (ModelTimeoutError("x"), True),
        (ProviderUnavailableError("x", status=503), True),
        (ProviderUnavailableError("x", status=529), True),
        (ProviderUnavailableError("x", status=500), False),
        (ProviderUnreachableError("x"), False),
    ],
)
def test_pushback_asks_for_fewer_calls(error: ModelError, pushes_back: bool) -> None:
    assert is_pushback(error) is pushes_back
