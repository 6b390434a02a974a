"""The adaptive limit on calls in flight to one model: learned from accepted and refused calls. Decides only.

The limit doubles every round until the provider refuses a call. It then falls to the number of calls that the provider accepted
together, and grows slowly. A growth of ``GROWTH`` for each success against one for each refusal keeps refusals near 1 %.
Without a refusal for far longer than that, growth accelerates.
"""

from __future__ import annotations

START = 128
CEILING = 4_096
GROWTH = 0.01  # for each success near the limit, once the provider's own limit is known
LEAST_AFTER_NOISE = 4  # refusals that follow no limit, at random, never serialise a lane
OUTAGE_REFUSALS = 3  # in a row, with no other call in flight


class AdaptiveLimit:
    """The limit of one lane.

    Attributes:
        value: calls that can be in flight now. The integer part counts.
        ceiling: the most that ``value`` can become.
        successes: all so far. A call remembers the number at its send.
        refused_in_row: refusals since the last success.
    """

    def __init__(self, ceiling: int = CEILING, start: int = START) -> None:
        self.ceiling = ceiling
        self.value = float(min(start, ceiling))
        self.successes = 0
        self.refused_in_row = 0
        self._doubles_below = float(ceiling)
        self._proven = 0  # calls in flight together that were accepted since the last cut
        self._clean = 0  # successes near the limit since the last refusal
        self._cut_at = -1  # ``successes`` at the last cut
        self._before_refusals = self.value

    def raise_start(self, value: int) -> None:
        """Start at the caller's own limit, unless the provider has refused a call."""
        if self._cut_at < 0:
            self.value = max(self.value, float(min(value, self.ceiling)))

    def succeeded(self, level: int, successes_at_send: int, in_flight: int) -> None:
        """Record a reply. ``level`` is the number of calls in flight when it was sent, itself included."""
        self.refused_in_row = 0
        self.successes += 1
        if successes_at_send > self._cut_at:
            self._proven = max(self._proven, level)
        if 2 * in_flight >= self.value and self.value < self.ceiling:
            self._clean += 1
            step = (
                1.0 if self.value < self._doubles_below else min(1.0, GROWTH * max(1.0, self._clean / (8 * self.value)))
            )
            self.value = min(float(self.ceiling), self.value + step)

    def refused(self, level: int, successes_at_send: int, others: int) -> None:
        """Record a refusal. ``others`` are the other calls in flight now.

        A call above the proven level was refused because of the provider's limit. All others in flight, and those answered since
        it was sent, were accepted beside it. A refusal at a proven level is a sign of a lower limit, or of chance.
        """
        if self.refused_in_row == 0:
            self._before_refusals = self.value
        self.refused_in_row += 1
        self._clean = 0
        accepted = others + self.successes - successes_at_send
        if accepted == 0:  # the provider refuses even one call, which says nothing about how many it takes
            self._doubles_below = self._before_refusals
            return
        if level > self._proven:
            value = float(max(1, self._proven, accepted))
            self._cut_at = self.successes
        else:
            value = max(float(LEAST_AFTER_NOISE), self.value - 1)
        self.value = self._doubles_below = min(self.value, value)

    def is_outage(self, others: int) -> bool:
        """Return True if the provider accepts no call at all."""
        return others == 0 and self.refused_in_row >= OUTAGE_REFUSALS

    def collapse(self) -> None:
        """Allow one call, as a probe, and double from there up to the limit before the outage."""
        self.value, self._proven, self._cut_at = 1.0, 0, self.successes
        self._doubles_below = self._before_refusals
