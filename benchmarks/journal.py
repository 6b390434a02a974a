"""Overhead of the journal: host CPU and time of the fan-out cases with and without a store, and the time of a replay.

    python -m benchmarks.journal [--repeat N]

Both variants alternate in one process, for a second of runs each, so that other load affects both. The overhead covers all
samples, with its standard error. "Replay" executes the recorded run without any model call, as `rlm resume` does first.
"""

from __future__ import annotations

import argparse
import math
import operator
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from pathlib import Path

from benchmarks.fanout import cpu_s, server_process
from rlm import RLM
from rlm.runtime.journaling import STORES

CASES: dict[str, tuple[str, object, dict[str, object]]] = {
    "batch 100": ("batch 100", 100, {"concurrency": 100}),
    "batch 1000": ("batch 1000", 1000, {"concurrency": 1000}),
    "tree": ("tree", 100, {"concurrency": 128, "max_depth": 2}),
    "20 turns": ("turns", 19, {}),
}
MAX_COST = 0.05
SAMPLE_S = 1.0
LARGE_BYTES = 1_000_000_000


def spend(work: Callable[[], object], catch_up: Callable[[], object] = lambda: None) -> tuple[float, float]:
    """Seconds and CPU seconds of one run.

    Runs repeat for SAMPLE_S. The sample includes the database writes after the last run, forced by ``catch_up``. The garbage
    collector is not reset, because a reset would add or remove a full pass in all samples of one side.
    """
    began, cpu, runs = time.perf_counter(), cpu_s(), 0
    while time.perf_counter() - began < SAMPLE_S:
        work()
        runs += 1
    took = time.perf_counter() - began
    catch_up()
    return took / runs, (cpu_s() - cpu) / runs


@dataclass(frozen=True)
class Cost:
    """CPU seconds of a run without a store, the added seconds of a store, and their standard error."""

    plain: float
    added: float
    error: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.plain + other.plain, self.added + other.added, math.hypot(self.error, other.error))

    def __str__(self) -> str:
        share, error = self.added / self.plain, self.error / self.plain
        verdict = "ok" if share <= MAX_COST else "MISSED"
        stored = (self.plain + self.added) * 1000
        return f"CPU {self.plain * 1000:7.1f} ms  with store {stored:7.1f} ms  {share:+6.1%} ±{error:.1%} {verdict:6}"


def measure(case: str, base_url: str, store: Path, repeat: int) -> Cost:
    question, expected, options = CASES[case]

    def engine(place: Path | None) -> RLM:
        return RLM("openai:bench", base_url=base_url, api_key="none", store=place, **options)  # type: ignore[arg-type]

    with engine(None) as without, engine(store) as recorded:

        def ask(which: RLM) -> None:
            assert which.run(question, "x").answer == expected

        ask(without)
        ask(recorded)
        catch_up = partial(STORES.open(store).find, "last")  # reads one run, at constant cost
        pairs = []
        for number in range(repeat):
            if number % 2:  # the first variant has colder caches
                after, before = spend(lambda: ask(recorded), catch_up), spend(lambda: ask(without))
            else:
                before, after = spend(lambda: ask(without)), spend(lambda: ask(recorded), catch_up)
            pairs.append((before, after))
        replayed = min(spend(lambda: recorded.replay("last"))[0] for _ in range(3))
    added = [after[1] - before[1] for before, after in pairs]
    cost = Cost(
        statistics.mean(before[1] for before, _ in pairs),
        statistics.mean(added),
        statistics.stdev(added) / math.sqrt(repeat),
    )
    slower = statistics.median(after[0] for _, after in pairs) - statistics.median(before[0] for before, _ in pairs)
    print(f"{case:12} {cost} time {slower * 1000:+6.1f} ms  replay {replayed * 1000:6.1f} ms", flush=True)
    return cost


def measure_large(base_url: str, store: Path) -> None:
    """Checks that a 1 GB context is not copied into the store, and that the run does not wait for its hash."""
    context = "x" * LARGE_BYTES

    def ask(place: Path | None) -> float:
        with RLM("openai:bench", base_url=base_url, api_key="none", store=place) as engine:
            began = time.perf_counter()
            engine.run("nothing", context)
            return time.perf_counter() - began

    without, stored = ask(None), ask(store)
    print(
        f"1 GB context: {without:.2f} s without, {stored:.2f} s with a store; the store has {store.stat().st_size / 1e6:.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    parser.add_argument("--repeat", type=int, default=16)
    options = parser.parse_args()
    with server_process() as base_url, tempfile.TemporaryDirectory() as folder:
        costs = [measure(case, base_url, Path(folder) / f"{case}.db", options.repeat) for case in CASES]
        print(f"{'all':12} {reduce(operator.add, costs)}", flush=True)
        measure_large(base_url, Path(folder) / "large.db")


if __name__ == "__main__":
    main()
