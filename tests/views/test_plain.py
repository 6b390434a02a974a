"""Plain lines: those that are written, those that are only counted, and their safety."""

from __future__ import annotations

import io
import time

from view_story import Story, long_run

import rlm
from rlm.testing.scripted import ScriptedModel
from rlm.views.plain import HEARTBEAT_S, Narrator, PlainView


def narrate(story: Story) -> list[str]:
    narrator = Narrator()
    return [line for event in story.events for line in narrator.narrate(event)]


def test_lines_run_from_models_to_totals() -> None:
    story = Story().begin().cell(1)
    for number in range(3):
        story.call(f"c{number}", batch=1).replied(f"c{number}")
    story.now = 2.0
    story.executed(1).node_finished().end("partial", limit="iterations")
    assert narrate(story) == [
        "[    0.0s] run run-1: models openai:big, openai:small; depth 2; sandbox process",
        "[    2.0s] root cell 1.1 ok, 2.0s; 3 sub-calls: 3 done",
        "[    2.0s] partial (limit met: iterations) · 2.0s · 3 calls: 3 done"
        " · 300 tokens in (120 cached), 30 out · $0.0030",
    ]


def test_repeated_failures_are_counted() -> None:
    story = Story().begin().cell(1)
    for number in range(2000):
        story.call(f"c{number}").retried(f"c{number}").failed(f"c{number}", message="host is down")
    story.executed(1).end("failed")
    lines = narrate(story)
    assert len(lines) < 20
    assert any("c0 failed: ModelTimeoutError: host is down" in line for line in lines)
    assert any("left out" in line for line in lines)
    assert "2,000 failed" in lines[-1]
    assert "2,000 retries" in lines[-1]


def test_many_nodes_make_few_lines() -> None:
    story = long_run(turns=2, batch=2, children=300)
    for number in range(300):
        story.node_finished(f"0/3.1.{number}")
    assert len(narrate(story.end())) < 25


def test_heartbeat_comes_once_per_silence() -> None:
    narrator = Narrator()
    assert narrator.heartbeat(100.0) is None
    for event in Story().begin().cell(1).call("c").events:
        narrator.narrate(event)
    assert narrator.heartbeat(HEARTBEAT_S - 1) is None
    beat = narrator.heartbeat(HEARTBEAT_S + 1)
    assert beat is not None
    assert "1 call: 1 running" in beat
    assert narrator.heartbeat(HEARTBEAT_S + 2) is None
    narrator.narrate(Story().end().events[0])
    assert narrator.heartbeat(10 * HEARTBEAT_S) is None


def test_lines_hold_no_control_sequences() -> None:
    evil = "\x1b[2Jone\ntwo\r\x1b]0;t\x07"
    story = Story().begin(question=evil, model=evil).cell(1, code=evil).call("c").retried("c", reason=evil)
    story.failed("c", message=evil).executed(1, end="error", error=evil)
    story.node("0/1.1.1", "0", 1, question=evil).node_finished("0/1.1.1", status="failed", error=evil).end("failed")
    out = io.StringIO()
    with PlainView(out) as view:
        for event in story.events:
            view.emit(event)
    written = out.getvalue()
    assert "one two" in written
    assert "\x1b" not in written
    assert "\r" not in written
    assert all(line.startswith("rlm: [") for line in written.splitlines())


def test_lines_appear_during_the_run() -> None:
    out = io.StringIO()
    with PlainView(out) as view:
        for event in Story().begin().events:
            view.emit(event)
        deadline = time.monotonic() + 5
        while not out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "models openai:big" in out.getvalue()


def test_closed_stream_does_not_end_run() -> None:
    out = io.StringIO()
    out.close()
    with PlainView(out) as view:
        for event in Story().begin().end().events:
            view.emit(event)


def test_stream_needs_only_write_and_flush() -> None:
    class Tee:
        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None:
            pass

    tee = Tee()
    with rlm.RLM(ScriptedModel(["FINAL(1)"]), store=None, sinks=[view := PlainView(tee)]) as engine, view:  # type: ignore[arg-type]
        engine.run("q", "context")
    assert "complete · " in tee.text
