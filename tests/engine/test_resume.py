"""The start of a resumed run: open calls are closed, and the ledger counts what earlier processes spent."""

from __future__ import annotations

from typing import Any

import pytest

from rlm.core.budget import Budget
from rlm.core.events import AnyEvent, CallBilled, CallFailed, CallReplied, CallStarted, NodeStarted, RunResumed
from rlm.core.history import LOST
from rlm.core.ids import ROOT, CallId, RunId
from rlm.core.ledger import Ledger
from rlm.core.messages import Message, Reply, Request, Usage
from rlm.engine.calling.call import CallServices
from rlm.engine.recorder import Recorder
from rlm.engine.replay.resume import OpenCalls, Resume
from rlm.engine.spending.meter import Meter
from rlm.engine.spending.reservations import Reservations
from rlm.engine.spending.stop import Stop
from rlm.testing import ScriptedModel, VirtualClock

RUN = RunId("r")
COMMON: dict[str, Any] = {"run": RUN, "node": ROOT}


def node() -> NodeStarted:
    return NodeStarted(**COMMON, at_s=0.0, parent=None, depth=0, model="m", question="q", context="c")


def started(call: str, at_s: float = 1.0) -> CallStarted:
    request = Request((Message("user", "prompt"),))
    return CallStarted(
        **COMMON,
        at_s=at_s,
        call=CallId(call),
        role="leaf",
        depth=1,
        model="scripted:m",
        turn=1,
        cell=1,
        request=request,
    )


def replied(call: str, *, billed: bool = True) -> CallReplied:
    reply = Reply("yes", Usage(1, 100, 0, 0, 10) if billed else Usage(), "m")
    return CallReplied(
        **COMMON, at_s=2.0, call=CallId(call), reply=reply, cost_usd=0.5, elapsed_s=1.0, cached=False, billed=billed
    )


def failed(call: str) -> CallFailed:
    return CallFailed(**COMMON, at_s=2.0, call=CallId(call), error="ModelError", message="", elapsed_s=1.0)


def billed(call: str, tokens: int = 7) -> CallBilled:
    return CallBilled(**COMMON, at_s=3.0, call=CallId(call), usage=Usage(1, tokens, 0, 0, 0), cost_usd=0.25)


@pytest.mark.parametrize(
    ("events", "lost", "unbilled"),
    [
        ([started("0/1.1.1")], ["0/1.1.1"], []),
        ([started("0/1.1.1"), replied("0/1.1.1")], [], []),
        ([started("0/1.1.1"), failed("0/1.1.1")], [], []),
        ([started("0/1.1.1"), replied("0/1.1.1", billed=False)], [], ["0/1.1.1"]),
        ([started("0/1.1.1"), replied("0/1.1.1", billed=False), billed("0/1.1.1")], [], []),
        ([started("0/1.1.1"), failed("0/1.1.1"), started("0/1.1.1")], ["0/1.1.1"], []),
    ],
)
def test_open_calls_are_found(events: list[AnyEvent], lost: list[str], unbilled: list[str]) -> None:
    calls = OpenCalls.of(events)
    assert (list(calls.lost), list(calls.unbilled)) == (lost, unbilled)


class Collector:
    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        self.events.append(event)


def resume(past: list[AnyEvent], budget: Budget) -> tuple[Ledger, list[AnyEvent]]:
    """The ledger after a resume, and the events that the resume added."""
    ledger, sink = Ledger(budget), Collector()

    async def main() -> None:
        meter = Meter(budget, lambda *_: None, ledger, 1_000)
        services = CallServices(Reservations(ledger, Stop()), meter, Recorder(RUN, [sink]))
        Resume(services, [ScriptedModel([], name="scripted:m")], counts_tokens=budget.counts_tokens).restore(past)

    VirtualClock().run(main())
    return ledger, sink.events[len(past) :]


def test_lost_call_is_closed_and_assumed() -> None:
    ledger, added = resume([node(), started("0/1.1.1")], Budget(calls=10, tokens=100_000))
    kinds = [type(event) for event in added]
    assert kinds == [RunResumed, CallBilled, CallFailed]
    assert isinstance(added[1], CallBilled)
    assert isinstance(added[2], CallFailed)
    assert (added[2].call, added[2].error) == ("0/1.1.1", LOST)
    assert added[1].assumed_tokens == ledger.spent.tokens > 0
    assert ledger.spent == ledger.assumed


def test_recorded_cost_is_counted() -> None:
    past: list[AnyEvent] = [
        node(),
        started("0/1.1.1"),
        replied("0/1.1.1"),
        started("0/1.1.2"),
        replied("0/1.1.2", billed=False),
    ]
    ledger, added = resume([*past, billed("0/1.1.2")], Budget(calls=10, tokens=100_000))
    assert [type(event) for event in added] == [RunResumed]
    assert (ledger.spent.calls, ledger.spent.tokens) == (2, 117)
    assert ledger.assumed.tokens == 0


def test_time_continues_after_the_record() -> None:
    _, added = resume([node(), started("0/1.1.1", at_s=40.0)], Budget(calls=10))
    assert added[0].at_s == pytest.approx(40.0)
