"""Retry decisions: which failures, how often, after which delay."""

from __future__ import annotations

import pytest

from rlm.core.errors import (
    AuthenticationError,
    EmptyReplyError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    PromptTooLongError,
    ProviderUnavailableError,
    ProviderUnreachableError,
    RateLimitedError,
    RefusalError,
    RequestRejectedError,
    TruncatedReplyError,
)
from rlm.scheduler.retries import Failures, RetryPolicy, is_answer, is_refusal, plan_retry

POLICY = RetryPolicy(
    retries=5, retry_seconds=60.0, odd_reply_retries=2, first_delay_s=1.0, max_delay_s=8.0, max_refused_delay_s=2.0
)


def nth(error: ModelError, number: int) -> Failures:
    """The failures of a call that failed with one error only."""
    return Failures(refusals=number) if is_refusal(error) else Failures(others=number)


def unreachable(*, hopeless: bool) -> ModelError:
    error = ProviderUnreachableError("x")
    error.hopeless = hopeless
    return error


def test_delays_double_up_to_the_longest() -> None:
    error = ProviderUnreachableError("x")
    delays = [plan_retry(error, nth(error, attempt), POLICY, jitter=1.0) for attempt in range(1, 7)]
    assert delays == [1, 2, 4, 8, 8, None]


def test_delays_after_refusals_stay_short() -> None:
    error = RateLimitedError("x")
    assert [plan_retry(error, nth(error, attempt), POLICY, jitter=1.0) for attempt in (1, 2, 3, 50)] == [1, 2, 2, 2]


def test_jitter_spreads_over_half_of_the_delay() -> None:
    error = ProviderUnreachableError("x")
    assert [plan_retry(error, nth(error, 3), POLICY, jitter) for jitter in (0.0, 0.5, 1.0)] == [2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("error", "retries"),
    [
        (AuthenticationError("x"), 0),
        (RefusalError("x"), 0),
        (TruncatedReplyError("x"), 0),
        (PromptTooLongError("x", status=429), 0),
        (EmptyReplyError("x"), 2),
        (MalformedReplyError("x"), 2),
        (unreachable(hopeless=True), 1),
        (unreachable(hopeless=False), 5),
        (ModelTimeoutError("x"), 5),
        (ProviderUnavailableError("x", status=500), 5),
        (RateLimitedError("x"), 99),
        (ProviderUnavailableError("x", status=503), 99),
        (ProviderUnavailableError("x", status=529), 99),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else f"{type(value).__name__} {value.status or ''}",
)
def test_retries_depend_on_the_failure(error: ModelError, retries: int) -> None:
    planned = [plan_retry(error, nth(error, attempt), POLICY, 0.0) is not None for attempt in range(1, 100)]
    assert planned == [True] * retries + [False] * (99 - retries)


def test_refusals_are_retried_by_time() -> None:
    error = RateLimitedError("x")
    assert plan_retry(error, nth(error, 1_000), POLICY, 0.0, refused_s=58.9) == 1.0
    assert plan_retry(error, nth(error, 1), POLICY, 0.0, refused_s=59.9) is None


def test_no_retries_means_none_after_refusals() -> None:
    error = RateLimitedError("x")
    assert plan_retry(error, nth(error, 1), RetryPolicy(retries=0), 0.0) is None


def test_refusals_leave_the_count_of_other_retries_alone() -> None:
    past = Failures(refusals=80, others=5)
    assert plan_retry(ProviderUnreachableError("x"), past, POLICY, 0.0, refused_s=400.0) == 4.0


def test_retry_after_replaces_the_delay() -> None:
    error = RateLimitedError("x", retry_after_s=30.0)
    assert plan_retry(error, nth(error, 1), POLICY, 0.0) == 30.0
    assert plan_retry(error, nth(error, 5), POLICY, 1.0) == 31.0


def test_retry_after_beyond_the_limit_fails_the_call() -> None:
    error = RateLimitedError("x", retry_after_s=61.0)
    assert plan_retry(error, nth(error, 1), POLICY, 0.0) is None


@pytest.mark.parametrize(
    ("error", "refuses", "answers"),
    [
        (RateLimitedError("x", status=429), True, True),
        (ProviderUnavailableError("x", status=503), True, False),
        (ProviderUnavailableError("x", status=529), True, False),
        (ProviderUnavailableError("x", status=500), False, False),
        (ModelTimeoutError("x"), False, False),
        (ProviderUnreachableError("x"), False, False),
        (RequestRejectedError("x", status=400), False, True),
        (EmptyReplyError("x"), False, True),
    ],
)
def test_only_load_is_refused(error: ModelError, refuses: bool, answers: bool) -> None:
    assert (is_refusal(error), is_answer(error)) == (refuses, answers)
