"""Installs peers, runs every scenario with every engine in turn, and prints a table of the best times with ratios.

    python -m benchmarks.peers.run --envs FOLDER [--only arbor,rlms] [--rounds 3] [--out results.json]

An existing results file is extended.

FOLDER gets one virtual environment per peer; nothing is installed elsewhere. Each measurement is a process of its own, against
one scripted server in another. A peer that cannot be installed or gives a wrong answer is shown as such, with its error on
stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.dialects import BATCH, CHILDREN, LEAF_LATENCY_S, LEAVES, LOOP

PACKAGES = {"rlms": ["rlms==0.1.3"], "dspy": ["dspy==3.4.1", "deno"], "minrlm": ["minrlm==0.1.5"]}
ENGINES = ("arbor", "rlms", "dspy", "dspy-local", "minrlm")
ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240


@dataclass(frozen=True)
class Scenario:
    """Measured scenario. ``ideal_s`` is the latency of the leaves alone, or None without leaves."""

    name: str
    what: str
    chars: int = 12
    ideal_s: float | None = None


SCENARIOS = (
    Scenario("cold", "cold start: import and the first answer"),
    Scenario("batch", f"batch of {BATCH} calls of {LEAF_LATENCY_S:g} s", ideal_s=LEAF_LATENCY_S),
    Scenario("loop", f"loop of {LOOP} calls of {LEAF_LATENCY_S:g} s", ideal_s=LOOP * LEAF_LATENCY_S),
    Scenario("nested", f"tree: {CHILDREN} child nodes with {LEAVES} calls each", ideal_s=LEAF_LATENCY_S),
    Scenario("turns", "one turn, context of 10 KB", 10_000),
    Scenario("turns", "one turn, context of 1 MB", 1_000_000),
    Scenario("turns", "one turn, context of 20 MB", 20_000_000),
    Scenario("many", "50 runs at once, 2 turns and a call each", ideal_s=LEAF_LATENCY_S),
)


def install(name: str, folder: Path) -> Path | None:
    """Installs a peer and returns the Python of its environment, or None on failure."""
    if name == "arbor":
        return Path(sys.executable)
    name = name.partition("-")[0]
    home = folder / name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", *PACKAGES[name]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"{name}: not installed: {done.stderr.strip()[-400:]}", file=sys.stderr)
        return None
    return python


@contextmanager
def scripted_server() -> Iterator[str]:
    """Runs the server in its own process and yields its base URL."""
    command = [sys.executable, "-m", "rlm.testing.server", "--script", "benchmarks.peers.script:answer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measure(name: str, python: Path, base_url: str, scenario: Scenario) -> str | float:
    """Least seconds of all repeats, or the reason for a missing time."""
    # Only our own engine sees this checkout, because the official library's package has the same name.
    env = {**os.environ, "PYTHONPATH": str(ROOT) if name == "arbor" else "", "OPENAI_API_KEY": "sk-none"}
    command = [python, ROOT / "benchmarks" / "peers" / "drive.py", name, base_url, scenario.name, str(scenario.chars)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=env, check=False)
    except subprocess.TimeoutExpired:
        return f"over {TIMEOUT_S} s"
    try:
        report = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        messages = done.stderr.strip().splitlines() or ["no output"]
        print(f"{name}, {scenario.what}: {messages[-1][:400]}", file=sys.stderr)
        return "no nested runs" if "no nested runs" in messages[-1] else "failed"
    if report.get("right", 0) != report.get("of", 0):
        print(f"{name}, {scenario.what}: {'; '.join(report['wrong'])}", file=sys.stderr)
        return f"{report['right']} of {report['of']} right, {report['seconds'][0]:.2f} s"
    return min(report["seconds"])  # the least disturbed repeat on a busy machine


def better(before: str | float | None, now: str | float) -> str | float:
    """Minimum of two times. A time wins over a reason, and a newer reason over an older one."""
    if isinstance(before, str) or before is None:
        return now
    return before if isinstance(now, str) else min(before, now)


def table(results: dict[str, dict[str, str | float]]) -> str:
    """Markdown table of scenarios by engine, with seconds and the ratio to ours."""
    engines = list(results)
    lines = ["| | " + " | ".join(engines) + " | latency alone |", "|---" * (len(engines) + 2) + "|"]
    for scenario in SCENARIOS:
        ours = results.get("arbor", {}).get(scenario.what)
        cells = [_cell(results[engine].get(scenario.what, "-"), ours, engine) for engine in engines]
        ideal = "-" if scenario.ideal_s is None else f"{scenario.ideal_s:g} s"
        lines.append(f"| {scenario.what} | {' | '.join(cells)} | {ideal} |")
    return "\n".join(lines)


def _cell(value: str | float, ours: str | float | None, engine: str) -> str:
    if isinstance(value, str):
        return value
    shown = f"{value * 1000:.1f} ms" if value < 0.1 else f"{value:.2f} s"
    if engine == "arbor" or not isinstance(ours, float) or not ours:
        return shown
    return f"{shown} ({value / ours:.1f}x)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=Path, required=True, help="folder for the peers' environments")
    parser.add_argument("--only", default=",".join(ENGINES), help="engines, separated by commas")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds")
    parser.add_argument("--out", type=Path, help="write the results to this file")
    options = parser.parse_args()
    results: dict[str, dict[str, str | float]] = {}
    if options.out and options.out.exists():
        results = json.loads(options.out.read_text())
    with scripted_server() as base_url:
        pythons = {name: install(name, options.envs) for name in options.only.split(",")}
        # Engines alternate within a scenario, so that other load affects all of them.
        for scenario in SCENARIOS * options.rounds:
            for name, python in pythons.items():
                if python is None:
                    continue
                result = measure(name, python, base_url, scenario)
                print(f"{name}, {scenario.what}: {result}", file=sys.stderr)
                results.setdefault(name, {})
                results[name][scenario.what] = better(results[name].get(scenario.what), result)
                if options.out:
                    options.out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
