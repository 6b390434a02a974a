"""Latencies of one model's replies, and what follows for deadlines and stragglers. Decides only.

Calls are comparable if they have the same role, a prompt of similar size and the same limit on their reply.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable

from rlm.core.messages import Request

SAMPLES = 256  # the newest of each kind of call
MIN_SAMPLES = 3
PERCENTILE = 0.95
STRAGGLER_FACTOR = 3.0
STRAGGLER_MIN_S = 1.0
DEADLINE_FACTOR = 10.0
DEADLINE_MIN_S = 5.0
DEADLINE_SAMPLES = 8
DEADLINE_GROWTH = 4.0  # for each attempt that was cut: a call that takes long by right ends in the second or third


class KindLatency:
    """The newest latencies of one kind of call."""

    __slots__ = ("_computed_at", "_normal_s", "_samples", "count")

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)
        self._computed_at = 0  # replies at the last computation
        self._normal_s = 0.0
        self.count = 0

    def record(self, seconds: float) -> None:
        """Record a reply."""
        self._samples.append(seconds)
        self.count += 1

    @property
    def straggler_s(self) -> float | None:
        """Seconds after which a call in flight is a straggler, or None while too little is known."""
        return None if self.count < MIN_SAMPLES else max(STRAGGLER_MIN_S, STRAGGLER_FACTOR * self.normal_s)

    def deadline_s(self, timeout_s: float, cut: int) -> float:
        """Deadline of an attempt, at most ``timeout_s``. ``cut`` counts the earlier attempts that met theirs."""
        if self.count < DEADLINE_SAMPLES:
            return timeout_s
        return min(timeout_s, max(DEADLINE_MIN_S, DEADLINE_FACTOR * self.normal_s) * DEADLINE_GROWTH**cut)

    @property
    def normal_s(self) -> float:
        """The 95th percentile, computed again after every eighth of the samples."""
        if self.count - self._computed_at > self._computed_at // 8 or self.count - self._computed_at > SAMPLES // 8:
            ordered = sorted(self._samples)
            self._normal_s = ordered[math.ceil(PERCENTILE * len(ordered)) - 1]
            self._computed_at = self.count
        return self._normal_s


class Latencies:
    """The latencies of one model, by kind of call."""

    def __init__(self) -> None:
        self._by_kind: dict[Hashable, KindLatency] = {}

    def of(self, request: Request) -> KindLatency:
        """The latencies of calls like this one. Prompts of one kind differ in size by a factor of four at most."""
        size = len(request.messages[-1].text).bit_length() // 2
        kind = (request.role, size, request.max_output_tokens, request.schema is None)
        latency = self._by_kind.get(kind)
        if latency is None:
            latency = self._by_kind[kind] = KindLatency()
        return latency
