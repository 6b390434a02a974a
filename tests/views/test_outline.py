"""Which rows are chosen when few fit, and what they say."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from view_story import Story, long_run

from rlm.core.messages import Usage
from rlm.core.usage import Spend
from rlm.views.layout import Row, describe_calls, describe_spend, format_count, format_seconds, outline
from rlm.views.progress import Progress


def fold(story: Story) -> Progress:
    progress = Progress()
    for event in story.events:
        progress.add(event)
    return progress


def texts(row: Row | None) -> list[str]:
    assert row is not None
    return [row.text, *(text for child in row.children for text in texts(child))]


def test_before_the_root_starts_there_is_nothing_to_show() -> None:
    assert outline(Progress(), 0.0, 10) is None


def test_a_running_batch_says_how_many_are_done_running_and_failed() -> None:
    story = Story().begin().cell(2)
    for number in range(40):
        story.call(f"c{number}", turn=2, batch=1)
    for number in range(31):
        story.replied(f"c{number}")
    story.failed("c31")
    assert "batch of 40: 31 done, 8 running, 1 failed" in texts(outline(fold(story), 1.0, 10))


def test_an_error_of_a_cell_is_told() -> None:
    story = Story().begin().cell(1).executed(1, end="error", error="NameError: name 'x' is not defined").cell(2)
    assert any("error" in text and "NameError: name 'x'" in text for text in texts(outline(fold(story), 1.0, 10)))


@given(st.integers(0, 8), st.integers(0, 5), st.integers(0, 60), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_the_tree_is_never_higher_than_asked_for(turns: int, batch: int, children: int, rows: int) -> None:
    row = outline(fold(long_run(turns, batch, children)), 1.0, rows)
    assert row is not None
    assert row.height <= rows


def test_many_batches_in_one_cell_stay_within_the_rows_and_the_latest_is_shown() -> None:
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


def test_nodes_at_work_are_shown_before_those_that_have_ended_and_the_rest_is_counted() -> None:
    story = Story().begin().cell(1)
    for number in range(30):
        story.node(f"0/1.1.{number}", "0", 1, batch=1)
    for number in range(28):
        story.node_finished(f"0/1.1.{number}", status="failed" if number == 3 else "complete")
    shown = texts(outline(fold(story), 1.0, 6))
    assert any(text.startswith("node 0/1.1.28 ") for text in shown)
    assert any(text.startswith("node 0/1.1.29 ") for text in shown)
    assert shown[-1] == "28 more nodes: 27 done, 1 failed"


def test_children_are_shown_in_the_order_they_were_asked_for() -> None:
    shown = texts(outline(fold(long_run(0, 0, 12)), 1.0, 40))
    nodes = [text.split()[1] for text in shown if text.startswith("node ")]
    assert nodes == [f"0/1.1.{number}" for number in range(12)]


def test_rows_hold_no_control_characters_of_the_run_s_texts() -> None:
    evil = "\x1b]0;title\x07\x1b[2Jline\r\nnext\u202e"
    story = Story().begin(question=evil, model=evil).cell(1, code=evil).executed(1, end="error", error=evil)
    story.node_finished(status="failed", error=evil)
    row = outline(fold(story), 1.0, 10)
    assert row is not None
    everything = str(row)
    assert "x1b" not in everything
    assert "u202e" not in everything
    assert "line next" in everything


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0.0s"), (59.94, "59.9s"), (60, "1m 00s"), (3599, "59m 59s"), (3661, "1h 01m")]
)
def test_seconds(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown


@pytest.mark.parametrize(("number", "shown"), [(9999, "9,999"), (12_345, "12.3k"), (4_560_000, "4.56M")])
def test_counts(number: int, shown: str) -> None:
    assert format_count(number) == shown


@pytest.mark.parametrize(
    ("spend", "shown"),
    [
        (Spend(), "0 tokens in, 0 out · $0.0000"),
        (Spend(Usage(2, 20_000, 5000, 0, 30), 0.5), "20.0k tokens in (5,000 cached), 30 out · $0.5000"),
        (Spend(Usage(2, 10, 0, 0, 3), 0.0, 2), "10 tokens in, 3 out · no price known"),
        (Spend(Usage(2, 10, 0, 0, 3), 0.1, 1), "10 tokens in, 3 out · $0.1000 and 1 call without a known price"),
    ],
)
def test_spend(spend: Spend, shown: str) -> None:
    assert describe_spend(spend) == shown


def test_totals_name_retries_and_nodes_only_where_there_are_any() -> None:
    story = Story().begin().cell(1).call("c")
    assert describe_calls(fold(story), 2.0) == "2.0s · 1 call: 1 running"
    story.retried("c").node("0/1.1.2", "0", 1)
    assert describe_calls(fold(story), 2.0) == "2.0s · 1 call: 1 waiting · 2 nodes: 2 running · 1 retry"
