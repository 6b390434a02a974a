"""A provider's limits on requests and tokens a minute, met by spacing calls out. Decides only: never waits, reads no clock."""

from __future__ import annotations

from rlm.core.messages import Reply, Request

BURST_S = 1.0
CHARS_PER_TOKEN = 4
TYPICAL_OUTPUT_TOKENS = 300  # of a leaf's reply, if the call sets no limit


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


def estimate_tokens(request: Request) -> int:
    """Tokens of a call before its usage is known."""
    prompt = sum(len(message.text) for message in request.messages) // CHARS_PER_TOKEN
    return 1 + prompt + (request.max_output_tokens or TYPICAL_OUTPUT_TOKENS)
