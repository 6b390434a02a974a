"""Curves of cost: time over the number of calls, the depth, concurrent runs, the size of the context, and slow calls.

    python -m benchmarks.curves [--out curves.html] [--full] [--repeat N] [--envs FOLDER] [CURVE ...]

The ideal beside each curve is measured in the same run: the same calls on raw sockets, without an engine. For contexts it is the
same run with a context of 1 KB. ``--envs`` adds the peers that ``benchmarks.peers.run`` has installed in that folder.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.curves_page import Curve, Point, draw_page
from benchmarks.curves_script import SLOW_S
from benchmarks.peers import run as peers
from benchmarks.raw_calls import RawClient
from rlm import RLM
from rlm.core.events import AnyEvent, CellExecuted

LINE = b"a line of plain text with words and numbers 0123456789\n"
GB = 1 << 30


class Curves:
    """Measures the curves.

    Args:
        base_url: of the scripted server.
        repeat: repetitions of each point, of which the best counts.
        full: also the sizes that take minutes, or 10 GB of disk.
    """

    def __init__(self, base_url: str, repeat: int, full: bool) -> None:
        self._base_url = base_url
        self._repeat = repeat
        self._full = full
        self._models = 0

    def _engine(self, **options: Any) -> RLM:
        self._models += 1  # a lane of its own for each curve and point
        return RLM(f"openai:curve-{self._models}", base_url=self._base_url, api_key="none", store=None, **options)

    def _best(self, work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(self._repeat):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def _ideal(self, work: Callable[[RawClient], Awaitable[object]]) -> float:
        async def measure() -> None:
            async with RawClient(self._base_url) as client:
                await work(client)

        return self._best(lambda: asyncio.run(measure()))

    def _time_of(self, engine: RLM, context: str, expected: int) -> float:
        def work() -> None:
            assert engine.run("work", context).answer == str(expected)

        return self._best(work)

    def calls(self) -> Curve:
        points = []
        for count in (1, 10, 100, 1_000, *((10_000,) if self._full else ())):
            with self._engine() as engine:
                engine.run("nothing", "x")
                seconds = self._time_of(engine, f"batch {count}", count)
            ideal = self._ideal(lambda client, count=count: client.fan_out(count))  # type: ignore[misc]
            points.append(Point(count, f"{count:,}", seconds, ideal))
        return Curve("One batch of calls of 0.2 s", "calls", "raw sockets", points)

    def depth(self) -> Curve:
        points = []
        for depth in (1, 2, 3, 4):
            width = 8 if self._full else 4
            with self._engine(max_depth=depth) as engine:
                engine.run("nothing", "x")
                seconds = self._time_of(engine, f"nest {depth} {width}", width**depth)
            ideal = self._ideal(lambda client, depth=depth, width=width: nested(client, depth, width))  # type: ignore[misc]
            points.append(Point(depth, str(depth), seconds, ideal, f"{width**depth:,} leaves"))
        return Curve("A tree of nodes, with the same fan-out at each level", "depth", "raw sockets", points)

    def runs(self) -> Curve:
        points = []
        for count in (1, 10, 50, 200, *((1_000,) if self._full else ())):
            with self._engine() as engine:
                seconds = self._best(lambda engine=engine, count=count: asyncio.run(many(engine, count)))  # type: ignore[misc]
            ideal = self._ideal(lambda client, count=count: client.runs(count, 10))  # type: ignore[misc]
            points.append(Point(count, f"{count:,}", seconds, ideal))
        return Curve("Concurrent runs in one process, each a batch of 10 calls", "runs", "raw sockets", points)

    def context(self) -> Curve:
        points: list[Point] = []
        with self._engine() as engine, tempfile.TemporaryDirectory() as folder:
            engine.run("size", "x" * 1000)
            ideal = self._first_cell(engine, "x" * 1000)
            sizes = {"1 MB": 10**6, "100 MB": 10**8, "1 GB": GB, **({"10 GB": 10 * GB} if self._full else {})}
            for label, size in sizes.items():
                with write_file(Path(folder, "text"), size).open("rb") as file:
                    points.append(Point(size, label, self._first_cell(engine, file), ideal))
        return Curve("A file as context: question to the end of the first cell", "size", "context of 1 KB", points)

    def documents(self) -> Curve:
        points: list[Point] = []
        with self._engine() as engine:
            engine.run("size", "x" * 1000)
            ideal = self._first_cell(engine, "x" * 1000)
            for count in (1_000, 100_000, 1_000_000, *((2_000_000,) if self._full else ())):
                texts = [f"document {number} " + "words " * 15 for number in range(count)]
                points.append(Point(count, f"{count:,}", self._first_cell(engine, texts), ideal))
        return Curve(
            "A list of documents as context: to the end of the first cell", "documents", "context of 1 KB", points
        )

    def tail(self) -> Curve:
        points = []
        ideal = self._ideal(lambda client: client.fan_out(100))
        for slow in (0, 1, 2, 5):
            with self._engine() as engine:
                engine.run("nothing", "x")
                seconds = self._time_of(engine, f"tail 100 {slow}", 100)
            points.append(Point(slow, str(slow), seconds, ideal, f"{SLOW_S:g} s without hedging" if slow else ""))
        return Curve("A batch of 100 calls, some of which take 10 s", "slow calls", "raw sockets, none slow", points)

    def _first_cell(self, engine: RLM, context: Any) -> float:
        """Seconds from the question to the end of the first cell."""
        ended: list[float] = []

        def note(event: AnyEvent) -> None:
            if isinstance(event, CellExecuted):
                ended.append(time.perf_counter())

        seconds = []
        for _ in range(self._repeat):
            began = time.perf_counter()
            engine.start("size", context, sinks=(note,)).result()
            seconds.append(ended[-1] - began)
        return min(seconds)


async def many(engine: RLM, count: int) -> None:
    results = await asyncio.gather(*(engine.arun("work", "batch 10") for _ in range(count)))
    assert [result.answer for result in results] == ["10"] * count


async def nested(client: RawClient, depth: int, width: int) -> None:
    """The calls of a tree: those of a node's children start when the node has its reply."""

    async def child() -> None:
        await client.node("child")
        await nested(client, depth - 1, width)

    if depth == 1:
        await client.fan_out(width)
    else:
        await asyncio.gather(*(child() for _ in range(width)))


def write_file(path: Path, size: int) -> Path:
    block = LINE * (1_000_000 // len(LINE))
    with path.open("wb") as out:
        while (left := size - out.tell()) > 0:
            out.write(block[:left])
    return path


PEER_POINTS = {"batch": ("calls", peers.BATCH), "many": ("runs", 50)}
"""Scenarios of ``benchmarks.peers`` that are points of a curve; their leaves take half as long."""


def add_peers(curves: dict[str, Curve], folder: Path) -> None:
    """Measures the installed peers."""
    with peers.scripted_server() as base_url:
        for name in (name for name in peers.ENGINES if name != "arbor"):
            python = folder / name.partition("-")[0] / "bin" / "python"
            for scenario in peers.SCENARIOS if python.exists() else ():
                curve, size = PEER_POINTS.get(scenario.name, ("", 0))
                if curve in curves and isinstance(seconds := peers.measure(name, python, base_url, scenario), float):
                    curves[curve].peers.setdefault(name, []).append((size, seconds))


@contextmanager
def server_process() -> Iterator[str]:
    command = [sys.executable, "-m", "rlm.testing.server", "--script", "benchmarks.curves_script:answer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves")
    parser.add_argument("curves", nargs="*", help="calls, depth, runs, context, documents, tail; all by default")
    parser.add_argument("--out", type=Path, default=Path("curves.html"))
    parser.add_argument("--full", action="store_true", help="also the largest sizes: minutes, and 10 GB of disk")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--envs", type=Path, help="folder of installed peers, see benchmarks.peers.run")
    options = parser.parse_args()
    curves: dict[str, Curve] = {}
    with server_process() as base_url:
        bench = Curves(base_url, options.repeat, options.full)
        for name in options.curves or ("calls", "depth", "runs", "context", "documents", "tail"):
            curves[name] = curve = getattr(bench, name)()
            print(curve.title)
            for point in curve.points:
                ideal = "" if point.ideal_s is None else f"{point.ideal_s:9.3f} {point.ratio:>7}"
                print(f"  {point.label:>12} {point.seconds:9.3f} {ideal}  {point.note}", flush=True)
    if options.envs:
        add_peers(curves, options.envs)
    about = f"Best of {options.repeat}, on {os.cpu_count()} processors that the scripted server shares."
    options.out.write_text(draw_page(curves.values(), about), encoding="utf-8")
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
