"""Round trips of events through the codec: every field of every kind, in the general form and in the short ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from event_kit import KINDS, RUN, build, build_minimal, vary

from rlm.core.cells import Cell, CellResult
from rlm.core.events import AnyEvent, CallReplied, CallSent, CallStarted, CellExecuted, CellStarted
from rlm.core.ids import CallId, NodeId
from rlm.core.messages import Message, Reply, Request, Task, Usage
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.codec import Decoder, Encoder

ROOT = NodeId("0")
FILLED = [build(kind, number) for number, kind in enumerate(KINDS)]
MINIMAL = [build_minimal(kind) for kind in KINDS]


def round_trip(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    encoder = Encoder(dump)
    lines = [encoder.encode(deque([event])) for event in events]
    decoder = Decoder(RUN, encoder.take_texts().get, load)
    return [event for line in lines for event in decoder.decode(line)]


def check(events: Sequence[AnyEvent]) -> None:
    """``repr`` shows what equality leaves out."""
    decoded = round_trip(events)
    assert decoded == list(events)
    assert repr(decoded) == repr(list(events))


def all_objects(thing: Any) -> list[Any]:
    inner = thing if isinstance(thing, tuple) else ()
    if is_dataclass(thing):
        inner = tuple(getattr(thing, field.name) for field in fields(thing))
    return [thing, *(found for item in inner for found in all_objects(item))]


def test_filled_events_reach_every_type() -> None:
    types = {type(thing).__name__ for event in FILLED for thing in all_objects(event)}
    assert types >= {"Request", "Reply", "Usage", "Task", "Message", "CellResult", "Cell", "Variable", "Answer"}


@pytest.mark.parametrize("event", [*FILLED, *MINIMAL], ids=lambda event: type(event).__name__)
def test_every_field_round_trips(event: AnyEvent) -> None:
    check([event])
    for _, variant in vary(event):
        check([variant])
        check([event, variant, event])
        check([variant, variant])


def leaf_story(number: int) -> list[AnyEvent]:
    """One leaf call of a batch, as the short forms have it."""
    call = CallId(f"0/1.1.{number}")
    at: Any = {"run": RUN, "node": ROOT}
    started = build_minimal(CallStarted)
    request = Request((Message("user", f"prompt {number}"),), "leaf")
    reply = Reply("answer", Usage(1, 2, 3, 4, 5, 6), started.model, 0.5)
    return [
        replace(started, **at, at_s=number + 0.25, call=call, role="leaf", depth=0, turn=1, cell=1, request=request),
        CallSent(**at, at_s=number + 0.5, call=call, attempt=1),
        replace(
            build_minimal(CallReplied),
            **at,
            at_s=number + 0.75,
            call=call,
            role="leaf",
            depth=0,
            reply=reply,
            cost_usd=0.5,
            elapsed_s=0.5,
        ),
    ]


def turn_story(turn: int) -> list[AnyEvent]:
    """One turn of a node with its cell, as the short forms have it."""
    at: Any = {"run": RUN, "node": ROOT}
    call, cell = CallId(f"0@{turn}"), Cell(turn, 1, f"x = {turn}")
    talk = tuple(Message("user", f"part {part}") for part in range(turn + 1))
    started = build_minimal(CallStarted)
    request = Request(talk, "node", stop=("stop",), cache_key="key", task=Task("q", 0, 1, turn, 100))
    reply = Reply("answer", Usage(1), started.model)
    replied = build_minimal(CallReplied)
    return [
        replace(started, **at, at_s=turn + 0.1, call=call, role="node", depth=0, turn=turn, request=request),
        replace(replied, **at, at_s=turn + 0.5, call=call, role="node", depth=0, reply=reply, cost_usd=None,
                elapsed_s=turn + 0.5 - (turn + 0.1)),
        CellStarted(**at, at_s=turn + 0.6, cell=cell),
        CellExecuted(**at, at_s=turn + 0.75, cell=cell, result=CellResult("ok")),
    ]  # fmt: skip


STORY = [event for number in (1, 2, 3) for event in (*leaf_story(number), *turn_story(number))]


@pytest.mark.parametrize("place", range(len(STORY)))
def test_one_field_off_the_short_form_round_trips(place: int) -> None:
    check(STORY)
    for _, variant in vary(STORY[place]):
        check([*STORY[:place], variant, *STORY[place + 1 :]])
