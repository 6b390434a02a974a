"""Server-sent events: the same however the bytes are cut, with every line end, and never without a bound."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.models.sse import MAX_EVENT_BYTES, EventReader, EventTooLarge, ServerEvent

STREAM = ': hello\n\ndata: {"a": "ä€😀"}\n\nevent: ping\ndata:x\ndata: y\nid: 7\n\n\ndata: [DONE]\n\n'
EVENTS = [
    ServerEvent("", '{"a": "ä€😀"}'.encode()),
    ServerEvent("ping", b"x\ny"),
    ServerEvent("", b"[DONE]"),
]


def read(data: bytes, cuts: list[int]) -> list[ServerEvent]:
    reader = EventReader()
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    events = [e for a, b in itertools.pairwise(borders) for e in reader.feed(data[a:b])]
    return events + reader.close()


@given(st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 120), max_size=20))
def test_events_are_independent_of_packet_borders(line_end: str, cuts: list[int]) -> None:
    assert read(STREAM.replace("\n", line_end).encode(), cuts) == EVENTS


def test_events_arrive_byte_by_byte() -> None:
    data = STREAM.encode()
    assert read(data, list(range(len(data)))) == EVENTS


@pytest.mark.parametrize("end", ["", "\n", "\r"])
def test_final_empty_line_can_be_missing(end: str) -> None:
    complete = [ServerEvent("", b"last")] if end else []
    assert read(f"data: last{end}".encode(), []) == complete, "half a line is not an event"


def test_endless_event_is_rejected() -> None:
    reader = EventReader()
    for _ in range(MAX_EVENT_BYTES // 65_536):
        reader.feed(b"x" * 65_536)
    with pytest.raises(EventTooLarge):
        reader.feed(b"x")
