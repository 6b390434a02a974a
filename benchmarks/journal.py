"""What the journal costs: client CPU and time of the fan-out cases with a store and without, and taking a run up again.

    python -m benchmarks.journal [--repeat N]

The two are measured alternately in one process, a second of runs each time, so that what else the machine does hits both; the
cost is the median of the pairs' ratios, and "all" is what the cases cost together. "Again" executes the recorded run once more
without asking anything, which is what `rlm resume` does before it goes on.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.fanout import cpu_s, server_process
from rlm import RLM
from rlm.records import STORES

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
    """Seconds and CPU seconds for a run, each time from the same state of the collector: one full pass takes 50 ms.

    Runs follow each other for SAMPLE_S; what the database gets after the last one, by ``catch_up``, belongs to them.
    """
    gc.collect()
    began, cpu, runs = time.perf_counter(), cpu_s(), 0
    while time.perf_counter() - began < SAMPLE_S:
        work()
        runs += 1
    took = time.perf_counter() - began
    catch_up()
    return took / runs, (cpu_s() - cpu) / runs


def measure(case: str, base_url: str, store: Path, repeat: int) -> tuple[float, float]:
    """CPU seconds of a run without a store and with one."""
    question, expected, options = CASES[case]

    def engine(place: Path | None) -> RLM:
        return RLM("openai:bench", base_url=base_url, api_key="none", store=place, **options)  # type: ignore[arg-type]

    with engine(None) as without, engine(store) as kept:

        def ask(which: RLM) -> None:
            assert which.run(question, "x").answer == expected

        ask(without)
        ask(kept)
        catch_up = partial(STORES.open(store).find, "last")  # reads one run: listing them all costs more with each
        pairs = []
        for number in range(repeat):
            if number % 2:  # whichever is first has the colder caches
                after, before = spend(lambda: ask(kept), catch_up), spend(lambda: ask(without))
            else:
                before, after = spend(lambda: ask(without)), spend(lambda: ask(kept), catch_up)
            pairs.append((before, after))
        plain, journalled = (statistics.median(pair[i][1] for pair in pairs) for i in (0, 1))
        cost = statistics.median(after[1] / before[1] for before, after in pairs) - 1
        slower = statistics.median(b[0] for _, b in pairs) - statistics.median(a[0] for a, _ in pairs)
        again = min(spend(lambda: kept.replay("last"))[0] for _ in range(3))
    show(case, plain, journalled, cost, f"time {slower * 1000:+6.1f} ms  again {again * 1000:6.1f} ms")
    return plain, plain * (1 + cost)


def show(case: str, plain: float, journalled: float, cost: float, rest: str = "") -> None:
    verdict = "ok" if cost <= MAX_COST else "MISSED"
    print(
        f"{case:12} CPU {plain * 1000:7.1f} ms  kept {journalled * 1000:7.1f} ms  {cost:+6.1%} {verdict:6} {rest}",
        flush=True,
    )


def measure_large(base_url: str, store: Path) -> None:
    """A context of a gigabyte is not copied into the store, and the run does not wait for its hash."""
    context = "x" * LARGE_BYTES

    def ask(place: Path | None) -> float:
        with RLM("openai:bench", base_url=base_url, api_key="none", store=place) as engine:
            began = time.perf_counter()
            engine.run("nothing", context)
            return time.perf_counter() - began

    without, kept = ask(None), ask(store)
    print(
        f"1 GB context: {without:.2f} s without, {kept:.2f} s kept; the store has {store.stat().st_size / 1e6:.1f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.journal")
    parser.add_argument("--repeat", type=int, default=16)
    options = parser.parse_args()
    with server_process() as base_url, tempfile.TemporaryDirectory() as folder:
        costs = [measure(case, base_url, Path(folder) / f"{case}.db", options.repeat) for case in CASES]
        plain, journalled = map(sum, zip(*costs, strict=True))
        show("all", plain, journalled, journalled / plain - 1)
        measure_large(base_url, Path(folder) / "large.db")


if __name__ == "__main__":
    main()
