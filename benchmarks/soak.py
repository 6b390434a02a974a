"""Soak: mixed runs with faults for a long time, while memory, descriptors, threads and processes must stay flat.

    python -m benchmarks.soak --seconds 7200 --folder FOLDER [--threads N] [--sample-seconds S] [--seed N].

Runs of all kinds follow one another on N threads of one process, against a scripted server in another process. Each S seconds
(default 10) the threads pause, and the resources of the process at rest are one row of FOLDER/soak.csv. FOLDER/soak.svg has
their curves. The exit status is 1 if a column grows steadily after the warm-up. It is also 1 if a run ended with a wrong
answer or an untyped error.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from benchmarks.soak_curves import Sample, take_sample, trends, write_csv, write_svg
from benchmarks.soak_runs import Soak

MAX_SURPRISES = 20  # that are printed
REST_S = 0.5  # for processes and connections of the last runs to end


@contextmanager
def server_process() -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "rlm.testing.server", "--script", "benchmarks.soak_script:answer"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()


def soak(
    seconds: float, folder: Path, *, threads: int = 2, sample_s: float = 10.0, seed: int = 0
) -> tuple[Soak, list[Sample]]:
    """Runs for ``seconds``. Returns the outcomes and the samples, which are written to ``folder`` as they are taken."""
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.environ["RLM_STORE"] = str(folder / "soak.db")
    began = time.monotonic()
    samples: list[Sample] = []
    runs = 0
    with server_process() as (base_url, server_pid), ThreadPoolExecutor(threads) as pool:
        work = Soak(base_url, folder, random.Random(seed), server_pid)
        while time.monotonic() - began < seconds:
            until = min(time.monotonic() + sample_s, began + seconds)
            runs += sum(pool.map(_run_until, [work] * threads, [until] * threads))
            work.prune()
            urlopen(Request(base_url.removesuffix("/v1") + "/reset", method="POST")).close()
            time.sleep(REST_S)
            samples.append(take_sample(time.monotonic() - began, runs, temporary, server_pid))
            write_csv(samples, folder / "soak.csv")
        write_svg(samples, folder / "soak.svg", f"{runs:,} runs in {samples[-1].at_s / 60:.0f} minutes, at rest")
        work.close()
    return work, samples


def _run_until(work: Soak, until: float) -> int:
    runs = 0
    while time.monotonic() < until:
        work.run_one()
        runs += 1
    return runs


def show(work: Soak, samples: list[Sample]) -> bool:
    """Prints outcomes and trends. Returns True if nothing was found."""
    for outcome, count in sorted(work.outcomes.items()):
        print(f"{count:7,} {outcome}")
    for surprise in work.surprises[:MAX_SURPRISES]:
        print(f"SURPRISE {surprise}")
    found = trends(samples)
    print(f"\n{'column':18}{'median':>12}{'per hour':>12}{'growth':>12}{'z':>7}")
    for trend in found:
        verdict = "" if trend.flat else "GROWS"
        print(f"{trend.column:18}{trend.median:12.1f}{trend.slope:12.1f}{trend.growth:12.1f}{trend.z:7.1f} {verdict}")
    return not work.surprises and all(trend.flat for trend in found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--seconds", type=float, default=7200)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sample-seconds", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    work, samples = soak(
        options.seconds,
        options.folder,
        threads=options.threads,
        sample_s=options.sample_seconds,
        seed=options.seed,
    )
    return 0 if show(work, samples) else 1


if __name__ == "__main__":
    sys.exit(main())
