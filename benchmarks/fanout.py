"""Fan-out: duration of batches, loops, trees and concurrent runs, beside a baseline from the same run.

    python -m benchmarks.fanout [--json] [--repeat N] [CASE ...]

The scripted server is another process on the same machine. The baseline sends the same calls on raw sockets, without an engine.
Each case runs N times (default 3) after a warm-up. The best is shown, because disturbances only add time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from urllib.request import Request, urlopen

from benchmarks.fanout_script import SLOTS
from benchmarks.raw_calls import RawClient
from rlm import RLM
from rlm.core.events import AnyEvent, CellExecuted

TARGETS_S = {
    "batch 20": 0.24,
    "batch 100": 0.27,
    "batch 1000": 0.9,
    "batch 1000, set": 0.65,
    "batch 1000, CPU": 0.5,
    "loop 20": 0.45,
    "tree": 0.60,
    "50 runs": 0.9,
    "ten runs, 20 slots": 6.0,
    "tail": 2.5,
    "hang": 6.0,
    "turn, 1 KB": 0.003,
    "turn, 100 MB": 0.003,
    "cold start": 0.45,
}
COLD_START = """
import sys, time, resource, rlm
engine = rlm.RLM("openai:bench", base_url=sys.argv[1], api_key="none")
assert engine.run("nothing", "x").answer == "done"
print(time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


GENERATOR = """
import sys, resource, rlm
engine = rlm.RLM("openai:bench", base_url=sys.argv[1], api_key="none", concurrency=256, store=None, cell_seconds=600)
peaks = []
for count in map(int, sys.argv[2:]):
    assert engine.run(f"generator {count}", "Generated" + " prompt" * 1400).answer == count
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
print(*peaks)
"""
GENERATED = (1_000, 6_000)  # calls


@dataclass(frozen=True)
class Row:
    """One measured case. ``ideal`` is None without a baseline."""

    case: str
    seconds: float
    ideal: float | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.seconds / self.ideal if self.ideal else None


@contextmanager
def server_process() -> Iterator[str]:
    command = [sys.executable, "-m", "rlm.testing.server", "--script", "benchmarks.fanout_script:answer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


class CellTimes:
    """Sink that records the duration of the root's cells."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.ended_s: list[float] = []

    def emit(self, event: AnyEvent) -> None:
        if isinstance(event, CellExecuted) and event.node == "0":
            self.seconds.append(event.result.elapsed_s)
            self.ended_s.append(event.at_s)


class Bench:
    def __init__(self, base_url: str, repeat: int) -> None:
        self._base_url = base_url
        self._repeat = repeat
        self._engines: list[RLM] = []

    def engine(self, model: str = "bench", **options: object) -> tuple[RLM, CellTimes]:
        times = CellTimes()
        engine = RLM(f"openai:{model}", base_url=self._base_url, api_key="none", sinks=(times,), **options)  # type: ignore[arg-type]
        self._engines.append(engine)
        return engine, times

    def reset_server(self) -> None:
        root = self._base_url.removesuffix("/v1")
        urlopen(Request(f"{root}/reset", method="POST")).read()

    def calls_at_server(self) -> int:
        root = self._base_url.removesuffix("/v1")
        return int(json.loads(urlopen(f"{root}/stats").read())["calls"])

    def ideal(self, work: Callable[[RawClient], Awaitable[object]]) -> tuple[float, float]:
        """Seconds and CPU seconds of the same calls without an engine."""

        async def measure() -> tuple[float, float]:
            async with RawClient(self._base_url) as client:
                await work(client)
                return await timed(lambda: work(client))

        return min(asyncio.run(measure()) for _ in range(self._repeat))

    def batch(self, count: int, concurrency: int | None = None) -> list[Row]:
        """A batch of leaf calls: the best repetition, and the first, with a lane that has learned nothing."""
        # Every model has a lane of its own.
        engine, times = self.engine(f"batch-{count}-{concurrency}", concurrency=concurrency)
        engine.run("batch 10", "x")
        cpus = []
        for _ in range(self._repeat + 1):
            cpu = cpu_s()
            assert engine.run(f"batch {count}", "x").answer == count
            cpus.append(cpu_s() - cpu)
        ideal, ideal_cpu = self.ideal(lambda client: client.fan_out(count))
        name = f"batch {count}" if concurrency is None else f"batch {count}, set"
        note = f"first time {times.seconds[1]:.2f} s"
        rows = [Row(name, min(times.seconds[2:]), ideal, note)]
        if concurrency is not None:
            rows.append(Row(f"batch {count}, CPU", min(cpus[1:]), ideal_cpu))
        return rows

    def shared(self) -> list[Row]:
        """A batch with a shared prefix: one call first, compared with all at once, and the cached share of each."""
        seconds, read = {}, {}
        for rule in ("never", "always"):
            engine, times = self.engine(warm_prefixes=rule)
            for number in range(self._repeat + 1):
                rules = f"Rules {rule} {number}. " + "a line of the rules. " * 400  # not in the cache yet
                usage = engine.run("shared 20", rules).usage.by_depth[1].usage
                read[rule] = usage.cached_tokens / usage.input_tokens
            seconds[rule] = min(times.seconds[1:])
        note = f"{read['always']:.0%} of the prompts from the cache, {read['never']:.0%} when sent at once"
        return [Row("shared 20", seconds["always"], seconds["never"], note)]

    def loop(self) -> list[Row]:
        engine, times = self.engine()
        calls = []
        for _ in range(self._repeat + 1):
            self.reset_server()
            assert engine.run("loop 20", "x").answer == 20
            calls.append(self.calls_at_server() - 1)
        ideal, _ = self.ideal(lambda client: client.fan_out(20))
        return [Row("loop 20", min(times.seconds[1:]), ideal, f"{max(calls)} calls at the server")]

    def groups(self) -> list[Row]:
        """A sequential loop over 6 batches of 10 calls."""
        engine, times = self.engine()
        for _ in range(self._repeat + 1):
            assert engine.run("groups", "x").answer == 60
        ideal, _ = self.ideal(lambda client: client.fan_out(60))
        return [Row("groups 6 x 10", min(times.seconds[1:]), ideal, "1.2 s without prefetching")]

    def tree(self) -> list[Row]:
        engine, times = self.engine(max_depth=2)
        for _ in range(self._repeat + 1):
            assert engine.run("tree", "x").answer == 100
        ideal, _ = self.ideal(lambda client: client.tree(10, 10))
        return [Row("tree", min(times.seconds[1:]), ideal)]

    def runs(self) -> list[Row]:
        engine, _ = self.engine()

        async def all_at_once() -> None:
            results = await asyncio.gather(*(engine.arun("batch 10", "x") for _ in range(50)))
            assert [result.answer for result in results] == [10] * 50

        async def measure() -> list[float]:
            return [(await timed(all_at_once))[0] for _ in range(self._repeat + 1)]

        seconds = asyncio.run(measure())
        ideal, _ = self.ideal(lambda client: client.runs(50, 10))
        return [Row("50 runs", min(seconds[1:]), ideal, f"first time {seconds[0]:.2f} s")]

    def shared_slots(self) -> list[Row]:
        """Ten runs of 50 calls each over a provider that takes 20 calls at once and refuses all others."""
        engine, _ = self.engine("twenty")
        self.reset_server()

        async def all_at_once() -> None:
            results = await asyncio.gather(*(engine.arun("batch 50", "x") for _ in range(10)))
            assert [result.answer for result in results] == [50] * 10

        seconds, _ = asyncio.run(timed(all_at_once))
        refused = self.calls_at_server() - 510

        async def waves(client: RawClient) -> None:
            for _ in range(500 // SLOTS):
                await client.fan_out(SLOTS)

        return [Row("ten runs, 20 slots", seconds, self.ideal(waves)[0], f"{refused} refusals, all by a new lane")]

    def stragglers(self, case: str, count: int) -> list[Row]:
        """A batch of which some calls take far longer than the others, on a new lane."""
        engine, times = self.engine(case)
        for _ in range(self._repeat):
            assert engine.run(case, "x").answer == count
        ideal, _ = self.ideal(lambda client: client.fan_out(count))
        return [Row(case, max(times.seconds), ideal, "the slowest repetition")]

    def turns(self) -> list[Row]:
        rows = []
        for name, context in (("1 KB", "x" * 1000), ("100 MB", "x" * 100_000_000)):
            engine, times = self.engine()
            spans = []
            for _ in range(self._repeat):
                times.ended_s.clear()
                engine.run("turns", context)
                spans.append((times.ended_s[-1] - times.ended_s[0]) / (len(times.ended_s) - 1))
            rows.append(Row(f"turn, {name}", min(spans), None))
        return rows

    def cold_start(self) -> list[Row]:
        answered, ended, rss = [], [], ""
        for _ in range(self._repeat + 1):
            began = time.monotonic()  # one clock for all processes
            done = subprocess.run(
                [sys.executable, "-c", COLD_START, self._base_url], check=True, capture_output=True, text=True
            )
            ended.append(time.monotonic() - began)
            at, rss = done.stdout.split()
            answered.append(float(at) - began)
        return [Row("cold start", min(answered), None, f"{min(ended):.3f} s to the process's end; {rss} MB resident")]

    def generator(self, counts: tuple[int, ...]) -> list[Row]:
        """Peak memory of the engine's process with a generator of 10 KB prompts, after few calls and after many."""
        began = time.perf_counter()
        command = [sys.executable, "-c", GENERATOR, self._base_url, *map(str, counts)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        few, many = map(int, done.stdout.split())
        seconds = time.perf_counter() - began
        prompts = counts[1] * 10 // 1000
        note = f"peak {few} MB after {counts[0]:,} calls, {many} MB after {counts[1]:,} with {prompts} MB of prompts"
        return [Row(f"generator {counts[1]}", seconds, None, note)]

    def close(self) -> None:
        for engine in self._engines:
            engine.close()


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    gc.collect()
    began, cpu = time.perf_counter(), cpu_s()
    await work()
    return time.perf_counter() - began, cpu_s() - cpu


def show(row: Row) -> str:
    target = TARGETS_S.get(row.case)
    ideal = f"{row.ideal:8.3f} {row.ratio:6.2f}" if row.ideal else f"{'':8} {'':6}"
    verdict = "" if target is None else ("ok" if row.seconds <= target else "MISSED")
    return f"{row.case:18} {row.seconds:8.4f} {ideal} {target or 0:8.3f} {verdict:7} {row.note}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fanout")
    parser.add_argument("cases", nargs="*", help="run only cases whose name contains one of these words")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    rows: list[Row] = []
    with server_process() as base_url:
        bench = Bench(base_url, options.repeat)
        cases: dict[str, Callable[[], list[Row]]] = {
            "cold-start": bench.cold_start,  # first, because a child inherits its parent's peak memory
            "batch-20": lambda: bench.batch(20),
            "batch-100": lambda: bench.batch(100),
            "batch-1000": lambda: bench.batch(1000),
            "batch-1000-set": lambda: bench.batch(1000, 1000),
            "shared": bench.shared,
            "loop": bench.loop,
            "groups": bench.groups,
            "tree": bench.tree,
            "runs": bench.runs,
            "slots": bench.shared_slots,
            "tail": lambda: bench.stragglers("tail", 200),
            "hang": lambda: bench.stragglers("hang", 10),
            "turns": bench.turns,
            "generator": lambda: bench.generator(GENERATED),
        }
        if not options.json:
            print(f"{'case':18} {'seconds':>8} {'ideal':>8} {'ratio':>6} {'target':>8}")
        for name, measure in cases.items():
            if options.cases and not any(word in name for word in options.cases):
                continue
            for row in measure():
                rows.append(row)
                if not options.json:
                    print(show(row), flush=True)
        bench.close()
    if options.json:
        print(json.dumps([{**asdict(row), "ratio": row.ratio, "target": TARGETS_S.get(row.case)} for row in rows]))


if __name__ == "__main__":
    main()
