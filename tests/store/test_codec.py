"""Round trips of events through the codec: every field of every kind, in the general form and in the short ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import orjson
import pytest
from event_kit import KINDS, RUN, build, build_minimal, vary

from rlm.core.cells import Answer, Cell, CellResult, Variable
from rlm.core.events import (
    AnyEvent,
    CallReplied,
    CallSent,
    CallStarted,
    CellExecuted,
    CellStarted,
    RunFinished,
    RunResumed,
    SubcallEnded,
)
from rlm.core.ids import CallId, NodeId
from rlm.core.messages import Message, Reply, Request, Task, Usage
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.codec import MAX_SHARED, Decoder, Encoder, load_line
from rlm.store.forms import MissingTextError

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


def test_consecutive_events_need_no_numbers() -> None:
    numbers = [row for row in load_line(Encoder(dump).encode(deque(STORY))) if isinstance(row, int)]
    assert numbers == [1]


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
        replace(replied, **at, at_s=turn + 0.5, call=call, reply=reply, cost_usd=None,
                elapsed_s=turn + 0.5 - (turn + 0.1)),
        CellStarted(**at, at_s=turn + 0.6, cell=cell),
        CellExecuted(**at, at_s=turn + 0.75, cell=cell, result=CellResult("ok")),
    ]  # fmt: skip


PARTS = [event for number in (1, 2, 3) for event in (*leaf_story(number), *turn_story(number))]
STORY = [replace(event, seq=seq) for seq, event in enumerate(PARTS, start=1)]


@pytest.mark.parametrize("place", range(len(STORY)))
def test_one_field_off_the_short_form_round_trips(place: int) -> None:
    check(STORY)
    for _, variant in vary(STORY[place]):
        check([*STORY[:place], variant, *STORY[place + 1 :]])


PAIR = "\ud83d\ude00"  # two lone surrogates, not the character that JSON's escapes would make of them
TEXTS = [
    "",
    "short",
    "\u00e9",
    "\ud800 alone",
    PAIR,
    PAIR * 2_000,
    "long text \u00e9 \ud800 " * 200,
    "x" * 5000,
    '"}]\n\x00',
]
VALUES = [None, True, 3, -(2**80), 0.1, float("inf"), b"b", {"a": ("x", 1)}, ["x"], {PAIR: [PAIR]}]


def story_of(text: str) -> list[AnyEvent]:
    """One story with this text wherever people and models write."""
    done = CellResult("error", text, text, text, text, text, Answer(text), (Variable(text, "int", 3),), (text, "n"))
    events: list[AnyEvent] = []
    for event in STORY:
        match event:
            case CallStarted():
                messages = tuple(replace(message, content=text) for message in event.request.messages)
                request = replace(event.request, messages=messages)
                if request.task is not None:
                    request = replace(request, task=replace(request.task, question=text), stop=(text,))
                events.append(replace(event, request=request))
            case CallReplied():
                events.append(replace(event, reply=replace(event.reply, text=text)))
            case CellExecuted():
                events.append(replace(event, result=done, notice=text, cell=replace(event.cell, code=text)))
            case CellStarted():
                events.append(replace(event, cell=replace(event.cell, code=text)))
            case _:
                events.append(event)
    return events


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_round_trips(text: str) -> None:
    check(story_of(text))


@pytest.mark.parametrize("value", [*TEXTS, *VALUES])
def test_any_value_round_trips(value: object) -> None:
    executed = build_minimal(CellExecuted)
    check([replace(executed, result=CellResult("ok", answer=Answer(value)))])
    check([replace(build_minimal(RunFinished), answer=value), replace(build_minimal(SubcallEnded), value=value)])


@pytest.mark.parametrize("text", TEXTS[1:])
def test_without_texts_none_is_written(text: str) -> None:
    encoder = Encoder(dump, keep_texts=False)
    events = story_of(text)
    line = encoder.encode(deque(events))
    assert encoder.take_texts() == {}
    assert text.encode("utf-8", "replace") not in line
    decoded = Decoder(RUN, lambda _: None, load, lenient=True).decode(line)
    assert [type(event) for event in decoded] == [type(event) for event in events]
    with pytest.raises(MissingTextError):
        Decoder(RUN, lambda _: None, load).decode(line)


@pytest.mark.parametrize("has_task", [True, False])
def test_conversation_round_trips_and_repeats_no_message(has_task: bool) -> None:
    """It grows, is compacted in its middle, loses its end, starts again, and stays as it is."""
    parts = [Message("user", f"part {number} " * 20) for number in range(6)]
    talks = [
        parts[:2],
        parts[:5],
        [parts[0], parts[5], parts[4]],
        [parts[0]],
        [parts[3], parts[1]],
        [parts[3], parts[1]],
    ]
    events: list[AnyEvent] = [
        CallStarted(
            run=RUN, node=ROOT, at_s=turn, seq=turn, call=CallId(f"0@{turn}"), role="node", depth=0, model="m", turn=turn,
            request=Request(tuple(talk), "node", task=Task("q", 0, 1, turn, 5) if has_task else None),
        )
        for turn, talk in enumerate(talks, start=1)
    ]  # fmt: skip
    check(events)
    encoder = Encoder(dump)
    lines = [encoder.encode(deque([event])) for event in events[:3]]
    assert [line.count(b"part 0") > 0 for line in lines] == [True, False, False]


def test_shared_fields_are_written_once() -> None:
    """Calls of one batch and their answers, turns of one node, a cell and its result: the second is a fraction."""
    task = Task("What " * 100, 1, 2, 1, 4)
    request = Request((Message("user", "u"),), "node", stop=("stop",), cache_key="key", task=task)
    started = replace(build_minimal(CallStarted), role="node", request=request)
    cell = Cell(1, 1, "code " * 100)
    executed = replace(build_minimal(CellExecuted), cell=cell, result=CellResult("ok"))
    for first, second, share in [
        (leaf_story(1), leaf_story(2), 0.75),
        ([started], [replace(started, turn=2, request=replace(request, task=replace(task, turn=2)))], 0.25),
        ([replace(build_minimal(CellStarted), cell=cell)], [executed], 0.25),
    ]:
        encoder = Encoder(dump)
        one, other = encoder.encode(deque(first)), encoder.encode(deque(second))
        assert len(other) < len(one) * share


def test_many_shared_fields_are_forgotten_on_both_sides() -> None:
    """More nodes than either side remembers, twice, so that numbers are used again."""
    nodes = [*range(MAX_SHARED + 10), *range(20)]
    check(
        [replace(CallSent(run=RUN, node=NodeId(f"0/{node}"), at_s=0.5, call=CallId("c"), attempt=2)) for node in nodes]
    )


def test_schema_is_written_once_for_a_batch() -> None:
    schema = {"title": "a long schema " * 20}
    started = leaf_story(1)[0]
    assert isinstance(started, CallStarted)
    request = replace(started.request, schema=schema)
    batch: list[AnyEvent] = [replace(started, call=CallId(f"0/1.1.{number}"), request=request) for number in range(5)]
    check(batch)
    assert Encoder(dump).encode(deque(batch)).count(b"a long schema " * 20) == 1


def test_resumed_run_is_decoded_across_encoders() -> None:
    """A second process writes the same run: its rows refer to nothing that the first one wrote."""
    first, second = Encoder(dump), Encoder(dump)
    half = len(STORY) // 2
    lines = [first.encode(deque(STORY[:half])), second.encode(deque(STORY[half:]))]
    decoder = Decoder(RUN, lambda _: None, load)
    assert [event for line in lines for event in decoder.decode(line)] == STORY


def test_unknown_kinds_and_fields_are_skipped() -> None:
    line = b'[["rlm",3],1,["Invented",{"node":"0"}],["RunResumed",{"node":"0","at_s":0.5,"later":1}]]'
    (event,) = Decoder(RUN, lambda _: None, load).decode(line)
    assert event == RunResumed(run=RUN, node=ROOT, at_s=0.5, seq=2)


@pytest.mark.parametrize("field", ["node", "role", "model"])
def test_row_without_a_required_field_is_refused(field: str) -> None:
    rows = load_line(Encoder(dump).encode(deque(STORY[:1])))
    del rows[-1][-1][field]
    with pytest.raises(ValueError, match="is missing"):
        Decoder(RUN, lambda _: None, load).decode(orjson.dumps(rows))
