"""Samples of a process's resources over time, the test for a trend in them, and their curves as CSV and SVG."""

from __future__ import annotations

import asyncio
import csv
import gc
import itertools
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path

from rlm.runtime.loop import BACKGROUND

PAGE = os.sysconf("SC_PAGE_SIZE")
WARM_UP = 0.25
"""The share of the samples, at the beginning, that the trend leaves out: caches fill and pools grow to their size."""
MIN_SAMPLES = 8  # after the warm-up, for a test
SIGNIFICANT_Z = 3.0  # of the Mann-Kendall test: one false alarm in 700 for each column


@dataclass(frozen=True)
class Sample:
    """Resources of this process and of its descendants, while no run is in progress."""

    at_s: float
    runs: int
    rss_mb: float
    descriptors: int
    sockets: int
    threads: int
    processes: int
    processes_mb: float
    tasks: int
    objects: int
    shm_files: int
    temporary_files: int


@dataclass(frozen=True)
class Tolerance:
    """Growth over the tested time that passes, however steady: the larger of a share and a number."""

    share: float
    least: float


TOLERANCES = {
    "rss_mb": Tolerance(0.04, 4),
    "descriptors": Tolerance(0.0, 3),
    "sockets": Tolerance(0.0, 3),
    "threads": Tolerance(0.0, 2),
    "processes": Tolerance(0.0, 2),
    "processes_mb": Tolerance(0.05, 8),
    "tasks": Tolerance(0.0, 2),
    "objects": Tolerance(0.03, 3_000),
    "temporary_files": Tolerance(0.0, 2),
}
"""The columns that must be flat. Other programs use /dev/shm too: its column is for information."""


@dataclass(frozen=True)
class Trend:
    """The trend of one column.

    Attributes:
        slope: the median growth in an hour (Theil-Sen).
        growth: the growth over the tested time at that slope.
        z: the Mann-Kendall statistic: the steadiness of the growth in standard deviations.
    """

    column: str
    median: float
    slope: float
    growth: float
    z: float

    @property
    def flat(self) -> bool:
        tolerance = TOLERANCES[self.column]
        return self.growth <= max(tolerance.least, tolerance.share * self.median) or self.z < SIGNIFICANT_Z


def take_sample(at_s: float, runs: int, temporary: Path, server_pid: int) -> Sample:
    """A sample of this process and its descendants but the server, after a garbage collection."""
    gc.collect()
    links = [_read_link(entry) for entry in _entries("/proc/self/fd")]
    children = descendants(os.getpid(), server_pid)
    return Sample(
        at_s=round(at_s, 1),
        runs=runs,
        rss_mb=_resident_mb("self"),
        descriptors=len(links),
        sockets=sum(link.startswith("socket:") for link in links),
        threads=len(_entries("/proc/self/task")),
        processes=len(children),
        processes_mb=round(sum(_own_mb(child) for child in children), 1),
        tasks=_count_tasks(),
        objects=len(gc.get_objects()),
        shm_files=len(_entries("/dev/shm")),
        temporary_files=len(_entries(temporary)),
    )


def descendants(pid: int, *others: int) -> list[int]:
    """The processes below ``pid`` but ``others``, parents before their children."""
    children: dict[int, list[int]] = {}
    for entry in _entries("/proc"):
        if entry.name.isdigit() and (parent := _parent(entry)) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, level = [], [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, ()) if child not in others]
        found += level
    return found


def tested(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The samples after the warm-up."""
    return samples[int(len(samples) * WARM_UP) :]


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """The trend of each column that must be flat; empty with too few samples."""
    rest = tested(samples)
    if len(rest) < MIN_SAMPLES:
        return []
    return [_trend(column, rest) for column in TOLERANCES]


def _trend(column: str, samples: Sequence[Sample]) -> Trend:
    values = [float(getattr(sample, column)) for sample in samples]
    times = [sample.at_s for sample in samples]
    pairs = list(itertools.combinations(range(len(values)), 2))
    slope_s = statistics.median((values[b] - values[a]) / max(times[b] - times[a], 1e-9) for a, b in pairs)
    score = sum((values[b] > values[a]) - (values[b] < values[a]) for a, b in pairs)
    n = len(values)
    deviation = math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    return Trend(
        column=column,
        median=statistics.median(values),
        slope=slope_s * 3600,
        growth=slope_s * (times[-1] - times[0]),
        z=(score - math.copysign(1, score)) / deviation if score else 0.0,
    )


def write_csv(samples: Sequence[Sample], path: Path) -> None:
    names = [column.name for column in fields(Sample)]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([getattr(sample, name) for name in names] for sample in samples)


def write_svg(samples: Sequence[Sample], path: Path, title: str) -> None:
    """One panel for each column, from zero to its maximum."""
    width, height, gap, left = 900, 62, 26, 210
    names = [column.name for column in fields(Sample) if column.name not in ("at_s", "runs")]
    end_s = max(samples[-1].at_s, 1.0)
    parts = []
    for row, name in enumerate(names):
        values = [float(getattr(sample, name)) for sample in samples]
        top, most = 40 + row * (height + gap), max(*values, 1.0)
        points = " ".join(
            f"{left + sample.at_s / end_s * width:.1f},{top + height - value / most * height:.1f}"
            for sample, value in zip(samples, values, strict=True)
        )
        parts.append(
            f'<text x="10" y="{top + 20}">{escape(name)}</text><text x="10" y="{top + 38}" fill="#666">'
            f"{min(values):g} to {max(values):g}</text>"
            f'<path d="M{left},{top}V{top + height}H{left + width}" fill="none" stroke="#bbb"/>'
            f'<polyline points="{points}" fill="none" stroke="#06c" stroke-width="1.5"/>'
        )
    parts.append(f'<text x="{left + width - 60}" y="{40 + len(names) * (height + gap)}">{end_s / 60:.0f} min</text>')
    whole = 60 + len(names) * (height + gap)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {whole}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="#fff"/><text x="10" y="22">{escape(title)}</text>'
        f"{''.join(parts)}</svg>\n"
    )


def _count_tasks() -> int:
    async def count() -> int:
        return len(asyncio.all_tasks())

    return BACKGROUND.wait(count()) - 1


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


def _resident_mb(pid: int | str) -> float:
    try:
        return round(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 2**20, 1)
    except (OSError, ValueError, IndexError):
        return 0.0


def _own_mb(pid: int) -> float:
    """The proportional share of memory: forked processes share most of their pages."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _read_link(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""


def _entries(folder: str | Path) -> list[Path]:
    try:
        return list(Path(folder).iterdir())
    except OSError:
        return []
