"""Cells stopped by the host: interrupted if possible, otherwise killed, with their output retained."""

from __future__ import annotations

import asyncio
import time

import pytest
from repl_kit import open_bench


@pytest.mark.parametrize(
    "code",
    ["x = 1\nprint('before')\nwhile True:\n    pass", "x = 1\nprint('before')\nllm_query('hang')"],
    ids=["a loop", "a call that hangs"],
)
async def test_stopped_cell_keeps_variables_and_output(code: str) -> None:
    async with open_bench() as bench:
        running = asyncio.create_task(bench.run(code))
        await asyncio.sleep(0.4)
        bench.repl.stop()
        result = await running
        assert (result.end, result.stdout, result.state_lost) == ("interrupted", "before\n", False)
        assert (await bench.run("print(x)")).stdout == "1\n"


async def test_uninterruptible_cell_is_killed_and_repl_continues() -> None:
    async with open_bench() as bench:
        running = asyncio.create_task(bench.run("print('before', flush=True)\nsum(range(10**12))"))
        await asyncio.sleep(0.4)
        began = time.monotonic()
        bench.repl.stop()
        result = await running
        assert time.monotonic() - began < 10  # 1.5 s on an idle machine
        assert (result.end, result.state_lost) == ("interrupted", True)
        assert "before" in result.stdout
        assert (await bench.run("print(context)")).stdout == "the context\n"


async def test_stop_of_idle_repl_does_nothing() -> None:
    async with open_bench() as bench:
        bench.repl.stop()
        assert (await bench.run("print(1)")).stdout == "1\n"
        bench.repl.stop()
        assert (await bench.run("print(2)")).stdout == "2\n"
