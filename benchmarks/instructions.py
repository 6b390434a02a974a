"""Overhead of the journal in instructions, counted by valgrind and stable to half a percent on a busy machine.

    python -m benchmarks.instructions [CASE ...]

Requires `valgrind`. Each case runs twice with a store and twice without, with few runs and with more. The difference of the
counts is the cost of a run, without process start. These parts are excluded:

- The kernel's share of a write.
- The thread that writes the database once a second, because everything takes fifty times as long here.
- Full passes of the garbage collector, whose number varies by chance.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.fanout import server_process
from benchmarks.journal import CASES
from rlm import RLM
from rlm.engine import recorder
from rlm.store import writer

RUNS = {"batch 100": 10, "batch 1000": 3, "tree": 10, "20 turns": 15}
SLOWER = 50


def count(case: str, base_url: str, store: Path | None, runs: int) -> int:
    """Instructions of a process with this number of runs."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        sys.executable,
        "-m",
        __spec__.name,
        "work",
    ]
    done = subprocess.run(
        [*command, case, base_url, str(store or ""), str(runs)], capture_output=True, text=True, check=False
    )
    match = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or match is None:
        raise SystemExit(done.stderr[-2000:])
    return int(match[1])


def work(case: str, base_url: str, store: str, runs: int) -> None:
    """Runs inside the counted process, with timeouts scaled by its slowdown."""
    _replace_unsupported_calls()
    gc.set_threshold(700, 10, 1 << 30)
    recorder.FLUSH_DELAY_S *= SLOWER
    writer.GATHER_S *= SLOWER
    question, expected, options = CASES[case]
    with RLM("openai:bench", base_url=base_url, api_key="none", store=store or None, **options) as engine:  # type: ignore[arg-type]
        for _ in range(runs):
            assert engine.run(question, "x").answer == expected


def _replace_unsupported_calls() -> None:
    """Replaces pidfd calls, which valgrind does not support."""
    stays_open, _ = os.pipe()

    def send(pidfd: int, number: int, *_: object) -> None:
        match = re.search(r"^Pid:\s+(\d+)", Path(f"/proc/self/fdinfo/{pidfd}").read_text(), re.MULTILINE)
        if match is not None and int(match[1]) > 0:
            os.kill(int(match[1]), number)

    os.pidfd_open = lambda _pid, _flags=0: os.dup(stays_open)
    signal.pidfd_send_signal = send  # type: ignore[assignment]


def main() -> None:
    if sys.argv[1:2] == ["work"]:
        case, base_url, store, runs = sys.argv[2:]
        work(case, base_url, store, int(runs))
        return
    if shutil.which("valgrind") is None:
        raise SystemExit("valgrind is not installed")
    total = [0.0, 0.0]
    with server_process() as base_url, tempfile.TemporaryDirectory() as folder:
        for case in sys.argv[1:] or CASES:
            runs, spent = RUNS[case], []
            for stored in (False, True):
                few, many = (
                    count(case, base_url, Path(folder) / f"{case} {number}.db" if stored else None, number)
                    for number in (2, 2 + runs)
                )
                spent.append((many - few) / runs)
            show(case, *spent)
            total = [sum(pair) for pair in zip(total, spent, strict=True)]
    show("all", *total)


def show(case: str, plain: float, stored: float) -> None:
    print(
        f"{case:12} {plain / 1e6:8.1f} million  with store {stored / 1e6:8.1f} million  {stored / plain - 1:+.1%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
