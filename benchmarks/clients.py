"""Calls a second and CPU a call of our own OpenAI-compatible provider, against the scripted server in a process of its own.

    python -m benchmarks.clients

Prints one line a case: calls, at once, latency of the server, calls a second reached, CPU of this process a call.
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

CASES = ((5_000, 1, 0.0), (20_000, 64, 0.0), (10_000, 1_000, 0.1))  # calls, at once, seconds of latency
WARM_CALLS = 1_000
ASK = Request((Message("system", "You label texts."), Message("user", "Label this one, please. " * 20)))


@contextmanager
def server_process(latency_s: float) -> Iterator[str]:
    """A scripted server in its own process; gives its base URL."""
    command = [sys.executable, "-m", "rlm.testing.server", "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


async def ask_many(model: OpenAIChat, calls: int, at_once: int) -> None:
    left = iter(range(calls))

    async def worker() -> None:
        for _ in left:
            await model.ask(ASK)

    await asyncio.gather(*(worker() for _ in range(at_once)))


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(base_url: str, calls: int, at_once: int) -> tuple[float, float]:
    """Calls a second and CPU seconds a call, connections already open."""
    model = OpenAIChat("bench", api_key="none", base_url=base_url)
    await ask_many(model, max(WARM_CALLS, at_once), at_once)
    began, cpu = time.perf_counter(), cpu_s()
    await ask_many(model, calls, at_once)
    elapsed, used = time.perf_counter() - began, cpu_s() - cpu
    await model.aclose()
    return calls / elapsed, used / calls


def main() -> None:
    for calls, at_once, latency_s in CASES:
        with server_process(latency_s) as base_url:
            rate, cpu = asyncio.run(measure(base_url, calls, at_once))
        print(
            f"{calls:6} calls, {at_once:4} at once, {latency_s:g} s each: {rate:7,.0f} calls/s, {cpu * 1e6:4.0f} us CPU a call"
        )


if __name__ == "__main__":
    main()
