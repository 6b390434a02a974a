"""The soak for twenty seconds: no wrong outcome, and nothing but caches has grown at its end."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from benchmarks.soak_curves import TOLERANCES, Sample, trends, write_svg

ROOT = Path(__file__).parents[2]
SECONDS = 20
EARLY = 3  # samples in which pools reach their size
SLACK = {"descriptors": 16, "sockets": 8, "threads": 4, "processes": 2, "tasks": 2, "temporary_files": 0}
"""Growth that passes: a short run ends while connections and retained contexts still grow to their limits."""

FLAT = Sample(0.0, 0, 100.0, 40, 10, 8, 3, 27.0, 0, 50_000, 0, 0)


@pytest.mark.timeout(240)
def test_short_soak_is_clean(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--seconds", str(SECONDS), "--sample-seconds", "2"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=220, check=False
    )
    assert "SURPRISE" not in done.stdout, done.stdout
    with (tmp_path / "soak.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (tmp_path / "soak.svg").read_text().startswith("<svg")
    assert int(rows[-1]["runs"]) > 10
    early = rows[:EARLY]
    for column, slack in SLACK.items():
        assert int(rows[-1][column]) <= max(int(row[column]) for row in early) + slack, (column, done.stdout)


def samples_of(column: str, per_sample: float) -> list[Sample]:
    noise = (0, 1, -1, 2, 0, -2, 1, 0)
    start = getattr(FLAT, column)
    return [
        replace(FLAT, at_s=number * 60.0, **{column: start + number * per_sample + noise[number % 8]})
        for number in range(60)
    ]


@pytest.mark.parametrize("column", TOLERANCES)
def test_steady_growth_is_found_and_noise_is_not(column: str) -> None:
    tolerance = TOLERANCES[column]
    enough = max(tolerance.least, tolerance.share * getattr(FLAT, column)) / 20
    growing = {trend.column: trend for trend in trends(samples_of(column, enough))}
    noisy = {trend.column: trend for trend in trends(samples_of(column, 0))}
    assert not growing[column].flat
    assert noisy[column].flat
    assert [trend.column for trend in growing.values() if not trend.flat] == [column]


def test_curve_has_a_panel_for_each_column(tmp_path: Path) -> None:
    write_svg(samples_of("rss_mb", 1), tmp_path / "a.svg", "title <&>")
    text = (tmp_path / "a.svg").read_text()
    assert text.count("<polyline") == len(fields(Sample)) - 2
    assert "title &lt;&amp;&gt;" in text
