"""Reports: interval coverage, paired differences, and a well-formed plot."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from statistics import fmean

import pytest
from rlm_evals.intervals import bootstrap_mean, paired_difference, quantile
from rlm_evals.plot import draw_report
from rlm_evals.report import compare_arms, format_length, render_report, summarise
from rlm_evals.results import Line


def line(arm: str, number: int, value: float, **changes: object) -> Line:
    fields: dict[str, object] = {
        "task": "oolong/spam/counting/MOST_FREQ",
        "length": 8192,
        "status": "complete",
        "calls": 10,
        "input_tokens": 1000 * (number + 1),
        "output_tokens": 0,
        "cost_usd": 0.01 * (number + 1),
        "error": None,
    } | changes
    return Line(
        arm,
        f"item/{number}",
        score=value,
        published=value,
        scorer="oolong",
        answer="",
        gold="",
        cached_tokens=0,
        elapsed_s=1.0,
        **fields,  # type: ignore[arg-type]
    )


def test_intervals_cover_the_true_mean() -> None:
    rng = random.Random(3)
    covered = 0
    for trial in range(300):
        interval = bootstrap_mean([rng.random() for _ in range(40)], resamples=600, seed=trial)
        covered += interval.low is not None and interval.high is not None and interval.low <= 0.5 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_interval_is_reproducible_and_contains_its_mean() -> None:
    values = [0.0, 1.0, 1.0, 0.75, 0.0, 1.0]
    interval = bootstrap_mean(values)
    assert interval == bootstrap_mean(values)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.mean == fmean(values) < interval.high


def test_single_value_has_no_interval() -> None:
    assert (bootstrap_mean([0.5]).low, bootstrap_mean([0.5]).n) == (None, 1)


def test_pairing_detects_differences_within_intervals() -> None:
    """Items vary much more than arms."""
    rng = random.Random(1)
    hard = [rng.random() for _ in range(30)]
    easier = [min(1.0, value + 0.05 + 0.01 * rng.random()) for value in hard]
    apart = bootstrap_mean(hard)
    paired = paired_difference(easier, hard)
    assert paired.low is not None
    assert paired.low > 0
    assert apart.high is not None
    assert apart.high > fmean(easier)


def test_quantiles_interpolate_linearly() -> None:
    assert quantile([1, 2, 3, 4], 0.5) == 2.5
    assert quantile([7], 0.95) == 7


def test_rows_aggregate_outcomes() -> None:
    lines = [line("rlm:1", n, 1.0) for n in range(8)]
    lines.append(line("rlm:1", 8, 0.5, status="partial", labelled_rows=10, labels_judged=8, labels_right=6))
    lines.append(line("rlm:1", 9, 0.0, status="failed", error="NoAnswerError", message="the reason"))
    (row,) = summarise(lines)
    assert (row.family, row.score.n) == ("oolong/spam", 10)
    assert row.score.mean == pytest.approx(0.85)
    assert (row.finished, row.partial, row.errors) == (0.9, 0.1, {"NoAnswerError": 1})
    assert (row.label_accuracy, row.labels_judged) == (0.75, 8)
    assert row.tokens == pytest.approx((5500.0, 9550.0))
    assert row.cost_usd == pytest.approx((0.055, 0.0955))


def test_unknown_price_makes_cost_unknown() -> None:
    (row,) = summarise([line("a", 0, 1.0), line("a", 1, 1.0, cost_usd=None)])
    assert row.cost_usd is None
    assert "unknown" in render_report({}, [line("a", 0, 1.0, cost_usd=None)])


def test_arms_are_compared_on_common_items() -> None:
    lines = [line("a", n, 0.5) for n in range(10)] + [line("b", n, 0.75) for n in range(5, 20)]
    (difference,) = compare_arms(lines, "a")
    assert (difference.arm, difference.score.n, difference.score.mean) == ("b", 5, 0.25)


def test_report_contains_tables_differences_and_errors() -> None:
    lines = [line("direct", n, 0.25) for n in range(4)] + [line("rlm:1", n, 1.0) for n in range(4)]
    lines.append(line("rlm:1", 4, 0.0, status="failed", error="Timeout", message="no answer within 9 s"))
    text = render_report({"model": "openai:x", "calls": None}, lines, "direct")
    for part in (
        "model=openai:x",
        "| oolong/spam | 8K",
        "+0.750",
        "Against `direct`",
        "1 x rlm:1: Timeout: no answer within 9 s",
    ):
        assert part in text
    assert "calls=None" not in text


def test_plot_is_well_formed_with_every_arm() -> None:
    lines = [
        line(arm, n, 0.1 * n, length=length)
        for arm in ("direct", "a <b> & c")
        for length in (1024, 8192)
        for n in range(9)
    ]
    root = ET.fromstring(draw_report(summarise(lines, merge_tasks=True)))
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"direct", "a <b> & c", "1K", "8K", "median cost, dollars"} <= set(texts)
    points = [element.get("points", "").split() for element in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert [len(line_points) for line_points in points] == [2, 2, 2, 2]
    assert all(
        0 <= float(x) <= 920 and 0 <= float(y) <= 300
        for line_points in points
        for x, y in (point.split(",") for point in line_points)
    )


def test_plot_of_one_length_without_cost() -> None:
    ET.fromstring(draw_report(summarise([line("a", 0, 1.0, cost_usd=0.0)])))


@pytest.mark.parametrize(("tokens", "text"), [(1024, "1K"), (131_072, "128K"), (4_194_304, "4M"), (1000, "1,000")])
def test_lengths_are_formatted_with_units(tokens: int, text: str) -> None:
    assert format_length(tokens) == text
