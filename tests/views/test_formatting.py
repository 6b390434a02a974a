"""Numbers and totals in words."""

from __future__ import annotations

import pytest
from view_story import Story

from rlm.core.messages import Usage
from rlm.core.usage import Spend
from rlm.views.formatting import describe_calls, describe_spend, format_count, format_seconds
from rlm.views.progress import Progress


def fold(story: Story) -> Progress:
    progress = Progress()
    for event in story.events:
        progress.add(event)
    return progress


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0.0s"), (59.94, "59.9s"), (60, "1m 00s"), (3599, "59m 59s"), (3661, "1h 01m")]
)
def test_seconds_are_formatted(seconds: float, shown: str) -> None:
    assert format_seconds(seconds) == shown


@pytest.mark.parametrize(("number", "shown"), [(9999, "9,999"), (12_345, "12.3k"), (4_560_000, "4.56M")])
def test_counts_are_formatted(number: int, shown: str) -> None:
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
def test_spend_is_described(spend: Spend, shown: str) -> None:
    assert describe_spend(spend) == shown


def test_totals_omit_absent_retries_and_nodes() -> None:
    story = Story().begin().cell(1).call("c")
    assert describe_calls(fold(story), 2.0) == "2.0s · 1 call: 1 running"
    story.retried("c").node("0/1.1.2", "0", 1)
    assert describe_calls(fold(story), 2.0) == "2.0s · 1 call: 1 waiting · 2 nodes: 2 running · 1 retry"
