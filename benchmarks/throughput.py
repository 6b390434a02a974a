"""Throughput of the engine against a server that answers at once: calls per second, CPU and memory of the host per call.

    python -m benchmarks.throughput [--repeat N] [CASE ...]

Cases: `rate`, `linear`, `generator`, and by name only `linear-100000` and `million`. Each runs in a process of its own, with the
journal on, beside the same number of calls on raw sockets. CPU is that of the host's process; the REPL's process is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.raw_calls import RawClient
from rlm import RLM

CONCURRENCY = 64
CASES = {  # the kind of batch, and its numbers of calls
    "rate": ("batch", (5_000,)),
    "linear": ("batch", (2_000, 20_000)),
    "generator": ("generator", (5_000, 50_000)),
    "linear-100000": ("batch", (10_000, 100_000)),
    "million": ("generator", (10_000, 1_000_000)),
}
DEFAULT_CASES = ("rate", "linear", "generator")


@dataclass(frozen=True)
class Sample:
    """One batch: its calls, its time, and the peak memory of the process after it."""

    calls: int
    seconds: float
    cpu_s: float
    peak_mb: float


@contextmanager
def instant_server() -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.instant_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def usage() -> tuple[float, float]:
    """CPU seconds of this process, and its peak memory in MB."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def work(base_url: str, store: str, kind: str, counts: list[int]) -> None:
    """Makes batches in the measured process, and prints a sample for each."""
    with RLM(
        "openai:bench", base_url=base_url, api_key="none", concurrency=CONCURRENCY, store=store, cell_seconds=36_000
    ) as engine:
        assert engine.run("batch 500", "x").answer == 500
        for count in counts:
            began, (cpu, _) = time.perf_counter(), usage()
            assert engine.run(f"{kind} {count}", "x").answer == count
            elapsed, (cpu_after, peak) = time.perf_counter() - began, usage()
            print(json.dumps([count, elapsed, cpu_after - cpu, peak]), flush=True)


def measure(base_url: str, kind: str, counts: tuple[int, ...]) -> list[Sample]:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "runs.db"
        arguments = [base_url, str(store), kind, *map(str, counts)]
        command = [sys.executable, "-m", "benchmarks.throughput", "work", *arguments]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [Sample(*json.loads(line)) for line in done.stdout.splitlines()]


async def call_raw(base_url: str, count: int) -> tuple[float, float]:
    """Seconds and CPU seconds of the same calls without an engine."""
    async with RawClient(base_url) as client:
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                await client.leaf(number)

        began, (cpu, _) = time.perf_counter(), usage()
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        return time.perf_counter() - began, usage()[0] - cpu


def show(case: str, samples: list[Sample], raw: tuple[float, float], calls: int) -> None:
    for sample in samples:
        print(
            f"{case:14} {sample.calls:9,} calls {sample.calls / sample.seconds:7,.0f} calls/s "
            f"{sample.cpu_s / sample.calls * 1e6:6.0f} us CPU per call, peak {sample.peak_mb:5.0f} MB"
        )
    print(
        f"{'raw sockets':14} {calls:9,} calls {calls / raw[0]:7,.0f} calls/s {raw[1] / calls * 1e6:6.0f} us CPU per call"
    )
    if len(samples) > 1:
        few, many = samples[0], samples[-1]
        growth = (many.peak_mb - few.peak_mb) * 1024 / (many.calls - few.calls)
        time_ratio = (many.seconds / many.calls) / (few.seconds / few.calls)
        print(f"{'':14} {time_ratio:.2f} times the time per call, {growth:.2f} KB of memory for each further call")


def main() -> None:
    if sys.argv[1:2] == ["work"]:
        base_url, store, kind, *counts = sys.argv[2:]
        work(base_url, store, kind, [int(count) for count in counts])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=[])
    parser.add_argument("--repeat", type=int, default=2, help="repetitions, of which the fastest counts")
    options = parser.parse_args()
    with instant_server() as base_url:
        for case in options.cases or DEFAULT_CASES:
            kind, counts = CASES[case]
            repetitions = [measure(base_url, kind, counts) for _ in range(options.repeat)]
            raw = min(asyncio.run(call_raw(base_url, 5_000)) for _ in range(options.repeat))
            show(case, min(repetitions, key=lambda samples: samples[-1].seconds), raw, 5_000)


if __name__ == "__main__":
    main()
