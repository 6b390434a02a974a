"""The choice of rows when few fit."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from view_story import Story, long_run

from rlm.views.layout import Row, outline
from rlm.views.progress import Progress


def fold(story: Story) -> Progress:
    progress = Progress()
    for event in story.events:
        progress.add(event)
    return progress


def texts(row: Row | None) -> list[str]:
    assert row is not None
    return [row.text, *(text for child in row.children for text in texts(child))]


def test_nothing_is_shown_before_root_starts() -> None:
    assert outline(Progress(), 0.0, 10) is None


def test_running_batch_shows_its_counts() -> None:
    story = Story().begin().cell(2)
    for number in range(40):
        story.call(f"c{number}", turn=2, batch=1)
    for number in range(31):
        story.replied(f"c{number}")
    story.failed("c31")
    assert "batch of 40: 31 done, 8 running, 1 failed" in texts(outline(fold(story), 1.0, 10))


def test_error_of_cell_is_shown() -> None:
    story = Story().begin().cell(1).executed(1, end="error", error="NameError: name 'x' is not defined").cell(2)
    assert any("error" in text and "NameError: name 'x'" in text for text in texts(outline(fold(story), 1.0, 10)))


@given(st.integers(0, 8), st.integers(0, 5), st.integers(0, 60), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_tree_never_exceeds_its_rows(turns: int, batch: int, children: int, rows: int) -> None:
    row = outline(fold(long_run(turns, batch, children)), 1.0, rows)
    assert row is not None
    assert row.height <= rows


def test_latest_of_many_batches_is_shown() -> None:
    story = Story().begin().cell(1)
    for batch in range(100):
        story.call(f"c{batch}", batch=batch)
        if batch < 99:
            story.replied(f"c{batch}")
    row = outline(fold(story), 1.0, 8)
    assert row is not None
    assert row.height == 8
    assert texts(row)[-1] == "batch of 1: 1 running"
    assert any("95 earlier groups" in text and "95 done" in text for text in texts(row))


def test_running_nodes_precede_ended_ones() -> None:
    story = Story().begin().cell(1)
    for number in range(30):
        story.node(f"0/1.1.{number}", "0", 1, batch=1)
    for number in range(28):
        story.node_finished(f"0/1.1.{number}", status="failed" if number == 3 else "complete")
    shown = texts(outline(fold(story), 1.0, 6))
    assert any(text.startswith("node 0/1.1.28 ") for text in shown)
    assert any(text.startswith("node 0/1.1.29 ") for text in shown)
    assert shown[-1] == "28 more nodes: 27 done, 1 failed"


def test_children_are_shown_in_call_order() -> None:
    shown = texts(outline(fold(long_run(0, 0, 12)), 1.0, 40))
    nodes = [text.split()[1] for text in shown if text.startswith("node ")]
    assert nodes == [f"0/1.1.{number}" for number in range(12)]


def test_rows_hold_no_control_characters() -> None:
    evil = "\x1b]0;title\x07\x1b[2Jline\r\nnext\u202e"
    story = Story().begin(question=evil, model=evil).cell(1, code=evil).executed(1, end="error", error=evil)
    story.node_finished(status="failed", error=evil)
    row = outline(fold(story), 1.0, 10)
    assert row is not None
    shown = str(row)
    assert "x1b" not in shown
    assert "u202e" not in shown
    assert "line next" in shown
