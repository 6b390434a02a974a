"""Rate limits that replies report: calls wait before the provider refuses them. Under ``VirtualClock``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from rlm.core.errors import ModelError, RateLimitedError
from rlm.core.ids import NodeId
from rlm.core.messages import Headroom, Message, Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.scheduler.pace import PROBE_S, Allowance
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import VirtualClock

REQUEST = Request((Message("user", "q"),))


@dataclass
class ReportingProvider:
    """A provider that reports its limit with every reply, and refuses calls beyond it.

    ``capacity`` calls are accepted, and refill all at once every ``period_s``, or gradually over it. With ``reports`` False it
    reports nothing.
    """

    capacity: int
    period_s: float
    gradual: bool = False
    latency: Callable[[int], float] = lambda _: 0.2
    reports: bool = True
    name: str = "scripted:reporting"
    info: ModelInfo = ModelInfo(1_000)
    refused_at: list[float] = field(default_factory=list)
    accepted_at: list[float] = field(default_factory=list)
    _left: float = -1.0
    _at: float = 0.0

    async def ask(self, request: Request) -> Reply:
        now = asyncio.get_running_loop().time()
        self._refill(now)
        if self._left < 1:
            self.refused_at.append(now)
            raise RateLimitedError("slow down", status=429, retry_after_s=self._reset_s(now))
        self._left -= 1
        self.accepted_at.append(now)
        left, reset_s = int(self._left), self._reset_s(now)
        await asyncio.sleep(self.latency(len(self.accepted_at)))
        return Reply("r", Usage(1, 9), self.name, headroom=Headroom(left, reset_s) if self.reports else None)

    async def aclose(self) -> None: ...

    def _refill(self, now: float) -> None:
        if self._left < 0:
            self._left, self._at = self.capacity, now
        elif self.gradual:
            self._left = min(self.capacity, self._left + self.capacity * (now - self._at) / self.period_s)
            self._at = now
        elif now >= self._at + self.period_s:
            self._left, self._at = self.capacity, self._at + (now - self._at) // self.period_s * self.period_s

    def _reset_s(self, now: float) -> float:
        missing = (self.capacity - self._left) / self.capacity
        return self.period_s * missing if self.gradual else self._at + self.period_s - now


def make_calls(provider: ReportingProvider, count: int) -> float:
    """Make calls with retries, as the engine does. Returns the seconds that they take."""
    clock, scheduler = VirtualClock(), RunScheduler()

    async def call() -> None:
        slot = None
        while True:
            slot = await scheduler.acquire(provider, REQUEST, NodeId("0"), slot)
            try:
                slot.succeeded(await provider.ask(REQUEST))
                return
            except ModelError as error:
                delay_s = slot.failed(error)
                assert delay_s is not None
            finally:
                slot.release()
            await asyncio.sleep(delay_s)

    async def main() -> None:
        await asyncio.gather(*(call() for _ in range(count)))

    clock.run(main())
    return clock.now()


@pytest.mark.parametrize("gradual", [False, True])
@pytest.mark.parametrize(("capacity", "period_s"), [(50, 1.0), (300, 5.0), (600, 60.0)])
def test_few_calls_are_refused_after_the_first_second(capacity: int, period_s: float, gradual: bool) -> None:
    provider = ReportingProvider(capacity, period_s, gradual)
    seconds = make_calls(provider, 4 * capacity)
    late = sum(at > 1.0 for at in provider.refused_at)
    assert late <= 0.03 * 4 * capacity
    least_s = 3 * period_s if gradual else 3 * period_s + 0.2
    assert seconds <= 1.35 * least_s + 2, "the provider's limit is used"


def test_replies_of_uneven_latency_report_in_any_order() -> None:
    provider = ReportingProvider(200, 2.0, latency=lambda number: (0.05, 0.9, 0.3)[number % 3])
    assert make_calls(provider, 1_000) < 15
    assert sum(at > 1.0 for at in provider.refused_at) <= 30


def test_calls_longer_than_the_period_pass() -> None:
    provider = ReportingProvider(40, 5.0, latency=lambda _: 12.0)
    assert make_calls(provider, 200) < 90
    assert sum(at > 1.0 for at in provider.refused_at) <= 20


def test_provider_without_reports_is_not_limited() -> None:
    provider = ReportingProvider(1_000, 1.0, reports=False)
    assert make_calls(provider, 500) < 1.0


def test_used_up_allowance_lets_single_calls_through() -> None:
    allowance = Allowance()
    allowance.report(1, 0, Headroom(2, 60.0), 10.0)
    allowance.take(10.0)
    assert allowance.opens_at == 0.0
    allowance.take(10.0)
    assert allowance.opens_at == 10.0 + PROBE_S
    allowance.take(10.0 + PROBE_S)
    assert allowance.opens_at == 10.0 + 2 * PROBE_S
    allowance.report(4, 0, Headroom(7, 50.0), 20.0)
    assert allowance.opens_at == 0.0


def test_older_reply_does_not_replace_a_newer_report() -> None:
    allowance = Allowance()
    allowance.report(9, 0, Headroom(0, 60.0), 10.0)
    allowance.report(3, 6, Headroom(90, 60.0), 11.0)
    assert allowance.opens_at == 10.0 + PROBE_S


def test_reply_without_report_ends_the_limit() -> None:
    allowance = Allowance()
    allowance.report(1, 0, Headroom(0, 60.0), 10.0)
    allowance.report(2, 0, None, 11.0)
    assert (allowance.opens_at, allowance.is_limited) == (0.0, False)
