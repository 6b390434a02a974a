"""What the journal costs in instructions of the client, counted by valgrind: on a busy machine the same to half a percent.

    python -m benchmarks.instructions [CASE ...]

Needs `valgrind`. Each case is run twice with a store and twice without, a few runs and some more; the difference of the counts
is what a run takes, without the start of the process. Not in it are the kernel's part of a write; the thread that brings groups
of events into the database, because it works once a second, and everything takes fifty times as long here; and the collector's
full passes, which a few runs have one more or less of by chance.
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
    """Instructions of a process that does so many runs."""
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
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise SystemExit(done.stderr[-2000:])
    return int(found[1])


def work(case: str, base_url: str, store: str, runs: int) -> None:
    """In the process that is counted. Waits are as much longer as everything is."""
    _do_without_unknown_calls()
    gc.set_threshold(700, 10, 1 << 30)
    recorder.SOON_S *= SLOWER
    writer.GATHER_S *= SLOWER
    question, expected, options = CASES[case]
    with RLM("openai:bench", base_url=base_url, api_key="none", store=store or None, **options) as engine:  # type: ignore[arg-type]
        for _ in range(runs):
            assert engine.run(question, "x").answer == expected


def _do_without_unknown_calls() -> None:
    """Valgrind knows no pidfd."""
    stays_open, _ = os.pipe()

    def send(pidfd: int, number: int, *_: object) -> None:
        told = re.search(r"^Pid:\s+(\d+)", Path(f"/proc/self/fdinfo/{pidfd}").read_text(), re.MULTILINE)
        if told is not None and int(told[1]) > 0:
            os.kill(int(told[1]), number)

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
            for kept in (False, True):
                few, many = (
                    count(case, base_url, Path(folder) / f"{case} {number}.db" if kept else None, number)
                    for number in (2, 2 + runs)
                )
                spent.append((many - few) / runs)
            show(case, *spent)
            total = [sum(pair) for pair in zip(total, spent, strict=True)]
    show("all", *total)


def show(case: str, plain: float, kept: float) -> None:
    print(f"{case:12} {plain / 1e6:8.1f} million  kept {kept / 1e6:8.1f} million  {kept / plain - 1:+.1%}", flush=True)


if __name__ == "__main__":
    main()
