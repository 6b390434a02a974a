"""The live tree on a terminal: bounded, unwrapped, harmless, and cheap for the run."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console
from view_story import Story, long_run

from rlm.views.live import LiveView, draw
from rlm.views.progress import Progress


def fold(story: Story) -> Progress:
    progress = Progress()
    for event in story.events:
        progress.add(event)
    return progress


def frame(story: Story, width: int = 100, height: int = 24, *, unicode: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(draw(fold(story), 12.0, width=width, height=height, unicode=unicode))
    return capture.get().splitlines()


def test_frame_shows_tree_and_totals() -> None:
    lines = frame(long_run(turns=1, batch=40, children=2))
    assert lines[0].split(" ", 1)[1].startswith("root running a cell")
    assert any("└─" in line and "cell 2.1" in line and "llm_query_batch(parts)" in line for line in lines)
    assert any("batch of 2: 2 running" in line for line in lines)
    assert any("node 0/2.1.1" in line for line in lines)
    assert lines[-2].startswith("12.0s · 46 calls: 40 done, 4 running, 2 waiting")
    assert lines[-1] == "4,000 tokens in (1,600 cached), 400 out · $0.0400"


@pytest.mark.parametrize("width", [10, 40, 80, 200])
@pytest.mark.parametrize("height", [3, 8, 24, 100])
def test_frame_fits_terminal(width: int, height: int) -> None:
    lines = frame(long_run(turns=9, batch=5, children=500), width, height)
    assert len(lines) <= max(3, height - 1)
    assert all(len(line) <= width for line in lines)


def test_wide_characters_do_not_wrap() -> None:
    story = Story().begin(question="日本語" * 100).cell(1, code="名前 = '🙂'" * 40)
    assert len(frame(story, width=50)) == 4


def test_only_ascii_is_drawn_without_unicode() -> None:
    lines = frame(long_run(turns=1, batch=2, children=60), unicode=False)
    tree = [line for line in lines if "·" not in line]
    assert len(tree) > 3
    assert all(line.isascii() for line in tree)


def test_markup_in_model_text_is_shown_literally() -> None:
    lines = frame(Story().begin(question="[red]stop[/red] [/] :smile: [link=x]y"))
    assert "[red]stop[/red] [/] :smile: [link=x]y" in lines[0]


def watch(story: Story, *, delay_s: float = 0.0) -> str:
    out = io.StringIO()
    console = Console(file=out, width=90, height=20, force_terminal=True, color_system="truecolor")
    with LiveView(console, refresh_s=0.01) as view:
        for event in story.events:
            view.emit(event)
            time.sleep(delay_s)
    return out.getvalue()


def test_last_frame_stays_and_cursor_returns() -> None:
    story = Story().begin().cell(1).call("a").replied("a").executed(1).node_finished().end()
    written = watch(story, delay_s=0.02)
    assert written.count("\x1b[?25l") == 1
    assert written.rstrip().endswith("\x1b[?25h")
    last = written[written.rindex("root") :]
    assert "complete after" in last
    assert "1 call: 1 done" in last


def test_nothing_is_written_without_a_run() -> None:
    assert watch(Story()) == ""


def test_terminal_gets_only_our_own_sequences() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x1b]52;c;AAAA\x07text\u202e\x9b5n"
    story = Story().begin(question=evil, model=evil).cell(1, code=evil).executed(1, end="error", error=evil)
    story.call("c").failed("c", message=evil).node_finished(status="failed", error=evil).end("failed")
    written = watch(story, delay_s=0.01)
    assert "text" in written
    assert "\x1b]" not in written
    assert "\x07" not in written
    assert "\x9b" not in written
    assert "\u202e" not in written
    assert set(re.findall(r"\x1b\[[0-9;?]*([A-Za-z])", written)) <= set("mAKlh")


def test_closed_terminal_does_not_end_run() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise OSError(5, "Input/output error")

    with LiveView(Console(file=Gone(), force_terminal=True, width=80, height=20), refresh_s=0.01) as view:
        for event in Story().begin().end().events:
            view.emit(event)
            time.sleep(0.02)


def test_emitting_to_live_view_is_cheap() -> None:
    events = long_run(turns=1, batch=10_000, children=0).events
    with LiveView(Console(file=io.StringIO(), width=90, height=20, force_terminal=True)) as view:
        started = time.perf_counter()
        for event in events:
            view.emit(event)
        event_us = (time.perf_counter() - started) / len(events) * 1e6
    assert event_us < 50  # measured 0.1 to 3; the rest is head-room for a busy machine
