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
    """The paces of all models of a run. Tokens are estimated before a call and corrected by the usage of its reply."""

    def __init__(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        self._limits = (requests_per_minute, tokens_per_minute)
        self._by_model: dict[str, tuple[Pace | None, Pace | None]] = {}

    def reserve(self, model: str, request: Request, now: float) -> float:
        """Reserve one call. Returns the seconds until it can leave."""
        requests, tokens = self._paces(model)
        wait_s = requests.reserve(1, now) if requests else 0.0
        if tokens:
            wait_s = max(wait_s, tokens.reserve(estimate_tokens(request), now))
        return wait_s

    def correct(self, model: str, request: Request, reply: Reply) -> None:
        """Replace the estimate for a call by its usage."""
        _, tokens = self._paces(model)
        if tokens:
            tokens.correct(estimate_tokens(request) - reply.usage.total_tokens)

    def _paces(self, model: str) -> tuple[Pace | None, Pace | None]:
        paces = self._by_model.get(model)
        if paces is None:
            requests, tokens = (None if limit is None else Pace(limit) for limit in self._limits)
            paces = self._by_model[model] = (requests, tokens)
        return paces


def estimate_tokens(request: Request) -> int:
    """Tokens of a call before its usage is known."""
    prompt = sum(len(message.text) for message in request.messages) // CHARS_PER_TOKEN
    return 1 + prompt + (request.max_output_tokens or TYPICAL_OUTPUT_TOKENS)
