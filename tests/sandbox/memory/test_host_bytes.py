"""The host's memory for sub-calls is charged to runs: by the plain accounts, and by the peak of a real process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.sandbox.memory.host_bytes import LEAST_BYTES, MOST_BYTES, RECEIVERS, HostBytes, choose_limit
from rlm.sandbox.memory.meter import Memory

ROOT = Path(__file__).parents[3]


def test_run_is_full_beyond_half_of_the_limit() -> None:
    account = HostBytes(100).account("a")
    account.charge(50)
    assert not account.is_full
    account.charge(1)
    assert account.is_full


def test_repls_of_a_run_share_an_account() -> None:
    host = HostBytes(100)
    first = host.account("a")
    assert host.account("a") is first
    assert host.account("b") is not first


def test_small_run_is_not_stopped_by_large_ones() -> None:
    host = HostBytes(100)
    large, other, small = host.account("large"), host.account("other"), host.account("small")
    large.charge(50)
    other.charge(50)
    small.charge(5)
    assert large.is_full
    assert other.is_full
    assert not small.is_full


def test_waiting_run_is_woken_when_another_makes_room() -> None:
    host = HostBytes(100)
    large, other, third = host.account("large"), host.account("other"), host.account("third")
    large.charge(50)
    other.charge(40)
    third.charge(40)
    woken: list[str] = []
    large.wait_for_room(lambda: woken.append("large"))
    other.refund(10)
    assert not woken
    other.refund(30)
    assert woken == ["large"]
    third.refund(40)
    assert woken == ["large"]
    assert host.used_bytes == 50


def test_run_receives_few_large_messages_at_once() -> None:
    account = HostBytes(100).account("a")
    assert [account.start_receiving() for _ in range(RECEIVERS + 1)] == [True] * RECEIVERS + [False]
    woken: list[int] = []
    account.wait_for_room(lambda: woken.append(1))
    account.end_receiving()
    assert woken == [1]
    assert account.start_receiving()


def test_limit_follows_the_machine() -> None:
    assert choose_limit(None) == LEAST_BYTES
    assert choose_limit(Memory(100, 1024)) == LEAST_BYTES
    assert choose_limit(Memory(100, 16 * 1024)) == 1024 * 1024 * 1024
    assert choose_limit(Memory(100, 10**6)) == MOST_BYTES


PROGRAM = """
import asyncio, json, resource, sys, time
from rlm.core.cells import Cell
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import SubcallAnswer
from rlm.sandbox.launchers.unconfined import UnconfinedLauncher
from rlm.sandbox.memory.meter import Memory
from rlm.sandbox.sandbox import WorkerSandbox

async def main():
    sandbox = WorkerSandbox(UnconfinedLauncher(), lambda: Memory(8192, 4096))
    open_now = most = 0

    async def serve(subcall):
        nonlocal open_now, most
        if subcall.prompt == "small":
            return SubcallAnswer("")
        open_now += 1
        most = max(most, open_now)
        while True:  # as long as more calls arrive
            seen = most
            await asyncio.sleep(1)
            if seen == most:
                break
        open_now -= 1
        return SubcallAnswer(str(len(subcall.prompt) + len(subcall.context or "")))

    async def run(name, code):
        limits = ReplLimits(cell_seconds=100, memory_mb=512)
        repl = await sandbox.open(ReplSpec("c", limits=limits, run=name))
        return await repl.execute(Cell(1, 1, code), serve)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large = asyncio.create_task(run("large", sys.argv[1]))
    small = "import time\\nlongest = 0\\nfor _ in range(100):\\n    t = time.perf_counter()\\n    llm_query('small')\\n" \\
        "    longest = max(longest, time.perf_counter() - t)\\nprint(longest)"
    other = await run("small", small)
    result = await large
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await sandbox.aclose()
    print(json.dumps({"shown": result.shown, "other": other.shown, "peak_mb": (peak - before) // 1024, "most": most}))

asyncio.run(main())
"""
CODES = {
    "large prompts": "print(sum(map(int, llm_query_batch('x' * (20 << 20) for _ in range(20)))))",
    "large contexts": "print(sum(map(int, llm_query_batch(['x'] * 20, context=['y' * (20 << 20)] * 20))))",
    "many prompts of a megabyte": "print(sum(map(int, llm_query_batch('x' * (1 << 20) for _ in range(400)))))",
    "asynchronous calls": """
import asyncio
async def ask(): return int(await llm_query_async('x' * (20 << 20)))
print(sum(await asyncio.gather(*(ask() for _ in range(6)))))
""",
}


@pytest.mark.parametrize("name", CODES)
def test_prompts_in_flight_never_fill_the_host(name: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, CODES[name]], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    sent = {
        "large prompts": 20 * (20 << 20),
        "large contexts": 20 * (20 << 20) + 20,
        "asynchronous calls": 6 * (20 << 20),
    }
    assert int(report["shown"]) == sent.get(name, 400 * (1 << 20)), report
    assert report["peak_mb"] < 260, report
    assert float(report["other"]) < 5, report
