"""Throughput and CPU cost of our OpenAI-compatible client, against the scripted server in another process.

    python -m benchmarks.clients

Prints one line per case: calls, concurrency, server latency, calls per second, and CPU time of this process per call.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rlm.core.messages import Message, Request
from rlm.models.openai_chat import OpenAIChat

CASES = ((5_000, 1, 0.0), (20_000, 64, 0.0), (10_000, 1_000, 0.1))  # calls, concurrency, latency in seconds
WARMUP_CALLS = 1_000
ASK = Request((Message("system", "You label texts."), Message("user", "Label this one, please. " * 20)))


@contextmanager
def server_process(latency_s: float) -> Iterator[str]:
    """Runs a scripted server in its own process and yields its base URL."""
    command = [sys.executable, "-m", "rlm.testing.server", "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def ask_many(model: OpenAIChat, calls: int, concurrency: int) -> None:
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await model.ask(ASK)

    await asyncio.gather(*(worker() for _ in range(concurrency)))


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(base_url: str, calls: int, concurrency: int) -> tuple[float, float]:
    """Calls per second and CPU seconds per call, with open connections."""
    model = OpenAIChat("bench", api_key="none", base_url=base_url)
    await ask_many(model, max(WARMUP_CALLS, concurrency), concurrency)
    began, cpu = time.perf_counter(), cpu_s()
    await ask_many(model, calls, concurrency)
    elapsed, used = time.perf_counter() - began, cpu_s() - cpu
    await model.aclose()
    return calls / elapsed, used / calls


def main() -> None:
    for calls, concurrency, latency_s in CASES:
        with server_process(latency_s) as base_url:
            rate, cpu = asyncio.run(measure(base_url, calls, concurrency))
        setting = f"{calls:6} calls, {concurrency:4} concurrent, {latency_s:g} s each"
        print(f"{setting}: {rate:7,.0f} calls/s, {cpu * 1e6:4.0f} us CPU per call")


if __name__ == "__main__":
    main()
