"""Time to encode and decode the events of whole runs, without database and files.

    python -m benchmarks.codec [--against CHECKOUT] [--rounds N]

Records the events of scripted runs, then encodes them in lines of 20. ``--against`` alternates with the code of another
checkout. Each round is a process of its own. The output is the least of all rounds, and the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

TREE = """
answers = llm_query_batch(["Answer with CHILD " + str(i) for i in range(10)])
FINAL(str(len(answers)))
"""
BATCH = (
    'answers = llm_query_batch([f"What is in line {i}? " + "x" * 60 for i in range(1000)])\nFINAL(str(len(answers)))'
)
TURN = 'total = {turn}\nprint("the total is now", total, [total] * 10)'
CASES: dict[str, tuple[Callable[[int], str], int]] = {
    "batch 1000": (lambda turn: BATCH, 1),
    "20 turns": (lambda turn: TURN.format(turn=turn) if turn < 19 else "FINAL('done')", 1),
    "10 children": (lambda turn: "x = llm_query('a')\ny = llm_query('b')\n" + TREE if not turn else "FINAL('done')", 2),
}
LINE_EVENTS = 20
REPEATS = 60


class Events(list[Any]):
    """A sink that collects events."""

    def emit(self, event: Any) -> None:
        self.append(event)


def record(code_of: Callable[[int], str], max_depth: int) -> list[Any]:
    """The events of one run."""
    from rlm import RLM  # noqa: PLC0415  of the checkout that is measured
    from rlm.testing.scripted import ScriptedModel  # noqa: PLC0415

    def answer(request: Any) -> str:
        if request.role == "leaf":
            return "The line holds an apple and a pear."
        turn = sum(message.role == "assistant" for message in request.messages)
        return f"I look at the data first.\n```repl\n{code_of(turn) if not request.depth else 'FINAL(1)'}\n```"

    events = Events()
    with RLM(ScriptedModel(answer), sinks=[events], max_depth=max_depth, max_iterations=30, store=None) as engine:
        engine.run("What does the input say?", "line\n" * 1000)
    return events


def measure(repeats: int = REPEATS) -> dict[str, float]:
    """Milliseconds of each case, the least of all repeats, and kilobytes of its lines."""
    from rlm.store.codec import Decoder, Encoder  # noqa: PLC0415

    dump, load = _value_codec()
    figures = {}
    for name, (code_of, max_depth) in CASES.items():
        events = record(code_of, max_depth)
        parts = [events[at : at + LINE_EVENTS] for at in range(0, len(events), LINE_EVENTS)]

        def encode(parts: Sequence[Any] = parts) -> tuple[list[bytes], dict[bytes, bytes]]:
            encoder = Encoder(dump)
            return [encoder.encode(deque(part)) for part in parts], encoder.take_texts()

        lines, texts = encode()

        def decode(run: Any = events[0].run, lines: Sequence[bytes] = lines, texts: Any = texts) -> None:
            decoder = Decoder(run, texts.get, load)
            for line in lines:
                decoder.decode(line)

        figures[f"{name}: encode, ms"] = 1000 * min(_times(encode, repeats))
        figures[f"{name}: decode, ms"] = 1000 * min(_times(decode, repeats))
        figures[f"{name}: size, KB"] = (sum(map(len, lines)) + sum(map(len, texts.values()))) / 1000
    return figures


def _value_codec() -> tuple[Any, Any]:
    try:
        from rlm.sandbox.worker.wire.values import dump, load  # noqa: PLC0415
    except ImportError:  # the layout of older checkouts
        from rlm.sandbox.worker.values import dump, load  # type: ignore[import-not-found,no-redef]  # noqa: PLC0415
    return dump, load


def _times(work: Callable[[], object], repeats: int) -> Iterator[float]:
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        yield time.perf_counter() - began


def measure_checkout(place: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, "--json"],
        env={**os.environ, "PYTHONPATH": str(place), "PYTHONSAFEPATH": "1"},
        cwd=place, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(measure()))
        return
    here = Path(__file__).parent.parent
    places = [here, options.against.resolve()] if options.against else [here]
    rounds = [[measure_checkout(place) for place in places] for _ in range(options.rounds)]
    for name in rounds[0][0]:
        least = [min(figures[at][name] for figures in rounds) for at in range(len(places))]
        ratio = f"   ratio {least[0] / least[1]:.2f}" if len(least) > 1 else ""
        print(f"{name:26}" + "".join(f"{median:9.3f}" for median in least) + ratio)


if __name__ == "__main__":
    main()
