"""A caller with real books and a real scheduler, for models that follow a script in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rlm.core.budget import Amounts, Budget
from rlm.core.errors import ModelError
from rlm.core.events import (
    AnyEvent,
    CallBilled,
    CallFailed,
    CallReplied,
    CallRetried,
    CallSent,
    CallStarted,
    NodeStarted,
)
from rlm.core.ids import ROOT, CallId, RunId
from rlm.core.ledger import Ledger, Need
from rlm.core.messages import CallRole, Message, Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.engine.calling.call import Call, CallServices
from rlm.engine.calling.caller import Caller
from rlm.engine.recorder import Recorder
from rlm.engine.spending.meter import Meter
from rlm.engine.spending.reservations import Reservations
from rlm.engine.spending.stop import Stop
from rlm.ports import Model, OnText
from rlm.scheduler.retries import RetryPolicy
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import VirtualClock

LATENCY_S = 1.0
WORST_TOKENS = 100
USAGE = Usage(1, 20, output_tokens=10)

Answer = str | ModelError
CALL_EVENTS = (CallStarted, CallSent, CallRetried, CallReplied, CallBilled, CallFailed)


class NoJitter(random.Random):
    """Jitter of zero: a delay without Retry-After is half of its nominal value."""

    def random(self) -> float:
        return 0.0


@dataclass
class TimedModel:
    """Answers each attempt by its number, counted from 1, after ``latency_s``."""

    answer: Callable[[int], Answer]
    latency_s: float = LATENCY_S
    name: str = "scripted:timed"
    info: ModelInfo = ModelInfo(window_tokens=1_000)
    sent_at: list[float] = field(default_factory=list)
    in_flight: int = 0
    in_flight_max: int = 0

    async def ask(self, request: Request) -> Reply:
        self.sent_at.append(asyncio.get_running_loop().time())
        number = len(self.sent_at)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            await asyncio.sleep(self.latency_s)
        finally:
            self.in_flight -= 1
        answer = self.answer(number)
        if isinstance(answer, ModelError):
            raise answer
        return Reply(answer, USAGE, self.name)

    async def aclose(self) -> None: ...


@dataclass
class StreamedModel(TimedModel):
    """Streams ``pieces``, one each ``latency_s``, then ends as ``answer`` says."""

    info: ModelInfo = ModelInfo(window_tokens=1_000, streams=True)
    pieces: Sequence[str] = ()
    satisfied_at: float | None = None

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        loop = asyncio.get_running_loop()
        self.sent_at.append(loop.time())
        for piece in self.pieces:
            await asyncio.sleep(self.latency_s)
            if on_text(piece) and self.satisfied_at is None:
                self.satisfied_at = loop.time()
        await asyncio.sleep(self.latency_s)
        answer = self.answer(len(self.sent_at))
        if isinstance(answer, ModelError):
            raise answer
        return Reply("".join(self.pieces), USAGE, self.name)


class EventLog:
    """A sink that stores the events of calls."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        if isinstance(event, CALL_EVENTS):
            self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [type(event).__name__.removeprefix("Call").lower() for event in self.events]

    def only(self, kind: type[AnyEvent]) -> AnyEvent:
        """The single event of a kind."""
        (event,) = [event for event in self.events if isinstance(event, kind)]
        return event


class CallBench:
    """Makes the calls of one run, all of one node, each reserved at ``WORST_TOKENS``."""

    def __init__(
        self, model: Model, *, tokens: int = 10_000, concurrency: int = 8, timeout_s: float = 60.0, retries: int = 3
    ) -> None:
        self.clock = VirtualClock()
        self.model = model
        self.log = EventLog()
        self.stop = Stop()
        self.ledger = Ledger(Budget(tokens=tokens))
        self.reservations = Reservations(self.ledger, self.stop)
        self.recorder = Recorder(RunId("r"), [self.log])
        node = NodeStarted(
            run=RunId("r"), node=ROOT, at_s=0.0, seq=0, parent=None, depth=0, model=model.name, question="", context=""
        )
        self.recorder.tree.add(node)
        meter = Meter(self.ledger.budget, lambda *_: None, self.ledger, None)
        self.services = CallServices(self.reservations, meter, self.recorder)
        self.scheduler = RunScheduler(
            concurrency=concurrency,
            call_timeout_s=timeout_s,
            policy=RetryPolicy(retries=retries, retry_seconds=30.0, first_delay_s=4.0, max_refused_delay_s=30.0),
            jitter=NoJitter(),
        )
        self.caller = Caller(self.scheduler, self.services)
        self._calls = 0

    def call(
        self, prompt: str = "q", *, role: CallRole = "leaf", worst: int = WORST_TOKENS, batch: int | None = None
    ) -> Call:
        self._calls += 1
        request = Request((Message("user", prompt),), role=role)
        cell = 1 if role == "leaf" else None
        call_id = CallId(f"0/1.1.{self._calls}" if role == "leaf" else f"0@{self._calls}")
        return Call(self.services, self.model, request, Need(Amounts(1, worst)), call_id, ROOT, 1, cell, batch)

    async def state_at(self, seconds: float) -> tuple[int, int]:
        """Tokens reserved and slots taken at a time."""
        await asyncio.sleep(seconds - self.clock.now())
        return self.ledger.held.tokens, self.scheduler.in_flight

    @property
    def spent(self) -> tuple[int, int, int]:
        """Calls and tokens counted, and the tokens among them that are assumed."""
        ledger = self.ledger
        assert (ledger.held, ledger.holds) == (Amounts(), 0)
        assert self.scheduler.in_flight == 0
        return ledger.spent.calls, ledger.spent.tokens, ledger.assumed.tokens
