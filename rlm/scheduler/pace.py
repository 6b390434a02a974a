"""A provider's limit on requests or tokens a minute, kept by spacing calls out. Decides; never waits, and reads no clock.

It keeps one number: when all that was let through will have been earned. A call may leave as soon as that lies no further ahead
than ``burst_s``, so that a quiet second may be made up for, but never a quiet hour.
"""

from __future__ import annotations

BURST_S = 1.0


class Pace:
    """``per_minute`` units; a call may cost any number of them."""

    def __init__(self, per_minute: float, burst_s: float = BURST_S) -> None:
        self._seconds_each = 60.0 / per_minute
        self._burst_s = burst_s
        self._earned_at = 0.0

    def reserve(self, units: float, now: float) -> float:
        """Takes ``units``; seconds until the call that takes them may leave."""
        before = max(self._earned_at, now)
        self._earned_at = before + units * self._seconds_each
        # The first unit of a burst is free to go: a call larger than a burst waits for the debt before it, not for its own.
        return max(0.0, min(before - now, self._earned_at - now - self._burst_s))

    def correct(self, units: float) -> None:
        """Gives units back that were not used, or takes more (negative)."""
        self._earned_at -= units * self._seconds_each
