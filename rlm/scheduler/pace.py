"""A provider's limits on requests and tokens a minute, met by spacing calls out. Decides only: never waits, reads no clock.

The limits are the caller's own (``Pacer``), or those that the provider reports with its replies (``Allowance``).
"""

from __future__ import annotations

import math

from rlm.core.messages import Headroom, Reply, Request

BURST_S = 1.0
CHARS_PER_TOKEN = 4
TYPICAL_OUTPUT_TOKENS = 300  # of a leaf's reply, if the call sets no limit
PROBE_S = 2.0  # between calls that find out whether a limit has been raised before its reset, as most are
ROUNDING_S = 1.0  # resets can be reported in whole seconds


class Pace:
    """A rate limit of ``per_minute`` units. A call can cost any number of them.

    The only state is the time at which all units granted so far are earned. A call leaves once that time is at most ``burst_s``
    ahead. A quiet second can therefore be made up for, but never a quiet hour.
    """

    def __init__(self, per_minute: float, burst_s: float = BURST_S) -> None:
        self._seconds_per_unit = 60.0 / per_minute
        self._burst_s = burst_s
        self._earned_at = 0.0

    def reserve(self, units: float, now: float) -> float:
        """Reserve ``units`` for a call. Returns the seconds until it can leave."""
        start = max(self._earned_at, now)
        self._earned_at = start + units * self._seconds_per_unit
        # A call larger than a burst waits for the debt before it, not for its own.
        return max(0.0, min(start - now, self._earned_at - now - self._burst_s))

    def correct(self, units: float) -> None:
        """Return reserved units that were not used. A negative number takes more."""
        self._earned_at -= units * self._seconds_per_unit


class Pacer:
    """The pace of one model. Tokens are estimated before a call and corrected by the usage of its reply."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._requests = None if requests_per_minute is None else Pace(requests_per_minute)
        self._tokens = None if tokens_per_minute is None else Pace(tokens_per_minute)

    def reserve(self, request: Request, now: float) -> float:
        """Reserve one call. Returns the seconds until it can leave."""
        wait_s = self._requests.reserve(1, now) if self._requests else 0.0
        if self._tokens:
            wait_s = max(wait_s, self._tokens.reserve(estimate_tokens(request), now))
        return wait_s

    def correct(self, request: Request, reply: Reply) -> None:
        """Replace the estimate for a call by its usage."""
        if self._tokens:
            self._tokens.correct(estimate_tokens(request) - reply.usage.total_tokens)


class Paces:
    """The pacers of one model in a process. Runs that give the same limits share one."""

    def __init__(self) -> None:
        self._by_limits: dict[tuple[float | None, float | None], Pacer] = {}

    def pacer(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> Pacer | None:
        """The pacer for these limits, or None without a limit."""
        limits = (requests_per_minute, tokens_per_minute)
        if limits == (None, None):
            return None
        return self._by_limits.setdefault(limits, Pacer(*limits))


class Allowance:
    """Calls that the provider accepts now, by the newest reply that reports it. Without a report there is no limit.

    Limits refill gradually or at a fixed time, and a report does not say which. So once the allowance is used up, nothing is sent
    but one call every ``PROBE_S`` seconds, and one at the reset. The reply to it reports the next allowance.

    Attributes:
        opens_at: the time at which the next call can leave; 0 while the allowance lasts.
        is_limited: a reply has reported a limit.
    """

    def __init__(self) -> None:
        self.opens_at = 0.0
        self.is_limited = False
        self._left = math.inf
        self._most = 1.0  # the largest allowance reported
        self._resets_at = math.inf
        self._newest = 0  # number of the newest call whose reply counted

    def take(self, now: float) -> None:
        """Count a call that is sent. Called once ``opens_at`` has passed, if the calls are limited."""
        if now >= self._resets_at + ROUNDING_S:  # replies that take longer than this report too late
            self._left, self._resets_at = self._most, math.inf
        self._set(max(1.0, self._left) - 1, now)

    def report(self, number: int, sent_since: int, headroom: Headroom | None, now: float) -> None:
        """Record what a reply reports.

        Args:
            number: that of its call; later calls have higher ones.
            sent_since: calls that were sent after it. They can be missing from the report.
            headroom: None if it reports nothing.
            now: the time.
        """
        if number < self._newest:
            return
        self._newest, self.is_limited = number, headroom is not None
        if headroom is None:
            self._left, self.opens_at = math.inf, 0.0
        else:
            self._resets_at = now + headroom.reset_s
            self._most = max(self._most, headroom.calls + 1.0)
            self._set(max(0.0, headroom.calls - sent_since), now)

    def refused(self, now: float) -> None:
        """Record a refusal: the report was wrong, or others use the limit as well."""
        if self.is_limited:
            self._set(0.0, now)

    def _set(self, left: float, now: float) -> None:
        self._left = left
        if left >= 1:
            self.opens_at = 0.0
        else:
            reset_at = self._resets_at if now < self._resets_at else self._resets_at + ROUNDING_S
            self.opens_at = min(now + PROBE_S, reset_at) if reset_at > now else now + PROBE_S


def estimate_tokens(request: Request) -> int:
    """Tokens of a call before its usage is known."""
    prompt = sum(len(message.text) for message in request.messages) // CHARS_PER_TOKEN
    return 1 + prompt + (request.max_output_tokens or TYPICAL_OUTPUT_TOKENS)
