"""SIGINT at any moment: frames stay whole, no lock stays held, and the REPL keeps its state."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

import asyncio
import os
import random
import signal

import pytest
from repl_kit import open_bench, show

LOOPS = {
    "asking": "while True:\n    assert llm_query('a') == 'echo:a'\n    print('x')",
    "batches": "while True:\n    assert llm_query_batch([str(i) for i in range(99)]) == [f'echo:{i}' for i in range(99)]",
    "gathering": "import asyncio\nwhile True:\n    assert await asyncio.gather(*[llm_query_async(str(i)) for i in range(20)]) == [f'echo:{i}' for i in range(20)]",
    "asyncio.run": "import asyncio\nasync def go(): return await asyncio.gather(*[llm_query_async(str(i)) for i in range(20)])\nwhile True: assert asyncio.run(go()) == [f'echo:{i}' for i in range(20)]",
    "asyncio.run beside an await": "import asyncio\nasync def go(): return await asyncio.gather(*[llm_query_async(str(i)) for i in range(20)])\nawait asyncio.sleep(0)\nwhile True: assert asyncio.run(go()) == [f'echo:{i}' for i in range(20)]",
    "threads": "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool:\n    while True: assert list(pool.map(llm_query, 'abcdefgh')) == [f'echo:{c}' for c in 'abcdefgh']",
    "printing": "while True: print('x' * 100)",
    "finalizers that print": "class D:\n    def __init__(self): self.me = self\n    def __del__(self): print('gone')\nwhile True:\n    D(); llm_query('a'); print('x')",
}  # fmt: skip


@pytest.mark.parametrize("name", LOOPS)
async def test_interrupts_at_random_moments(name: str) -> None:
    chance = random.Random(name)
    async with open_bench() as bench:
        await bench.run("kept = 1")
        pid = int((await bench.run("import os; os.getpid()")).echo or "")
        for _ in range(30):
            bench.calls.clear()
            running = asyncio.create_task(bench.run(f"llm_query('started')\n{LOOPS[name]}"))
            while not bench.calls:
                assert not running.done(), show(running.result())
                await asyncio.sleep(0)
            await asyncio.sleep(chance.random() * 0.01)
            for _ in range(5):  # Python drops an exception raised in a weakref callback: rarely, and never for long
                os.kill(pid, signal.SIGINT)
                await asyncio.wait([running], timeout=1)
                if running.done():
                    break
            async with asyncio.timeout(5):
                result = await running
            assert (result.error, result.state_lost) == ("KeyboardInterrupt", False), show(result)
            assert (
                await bench.run("kept, llm_query('z'), await llm_query_async('y')")
            ).echo == "(1, 'echo:z', 'echo:y')"


async def test_interrupt_between_cells_is_ignored() -> None:
    async with open_bench() as bench:
        pid = int((await bench.run("import os; os.getpid()")).echo or "")
        for _ in range(10):
            os.kill(pid, signal.SIGINT)
            assert (await bench.run("sum(range(1000))")).echo == "499500"


async def test_finalizers_cannot_make_calls() -> None:
    """Garbage is collected at any allocation, even while a frame is written, so finalizers must not wait for the socket."""
    async with open_bench() as bench:
        result = await bench.run(
            "import gc\ngc.set_threshold(1)\nseen = set()\n"
            "class D:\n"
            "    def __init__(self): self.me = self\n"
            "    def __del__(self):\n"
            "        print('gone')\n"
            "        try: seen.add(llm_query('from a finalizer'))\n"
            "        except LLMQueryError as e: seen.add(e.kind)\n"
            "for i in range(200):\n    D()\n    llm_query(str(i))\n"
            "gc.set_threshold(700)\nseen <= {'NotHere', 'echo:from a finalizer'}"
        )
        assert (result.end, result.echo) == ("ok", "True"), show(result)
        assert result.stdout.count("gone\n") >= 190


LEAVE_ONE = """
import asyncio, gc
def leave_one():
    loop = asyncio.new_event_loop()
    loop.create_task(llm_query_async('hang'))
    loop.run_until_complete(asyncio.sleep(0.001))
    loop.close()
"""


async def test_collected_coroutine_abandons_its_call() -> None:
    """Its cleanup runs at any allocation, even while the same thread writes a frame or starts a call."""
    async with open_bench() as bench:
        result = await bench.run(
            f"{LEAVE_ONE}\n"
            "for i in range(20):\n"
            "    gc.disable()\n"
            "    leave_one()\n"
            "    gc.set_threshold(1)\n"
            "    gc.enable()\n"
            "    llm_query(str(i))\n"
            "gc.set_threshold(700); gc.collect()"
        )
        assert result.end == "ok", show(result)
        assert (await bench.run("llm_query('z')")).echo == "'echo:z'"
        assert (bench.open, bench.cancelled) == (0, 20)


async def test_call_of_closed_loop_ends_with_cell() -> None:
    async with open_bench() as bench:
        result = await bench.run(f"{LEAVE_ONE}\ngc.disable()\nleave_one()\nkept = 1")
        assert (result.end, result.state_lost) == ("ok", False), show(result)
        assert (await bench.run("gc.enable(); kept, llm_query('z')")).echo == "(1, 'echo:z')"
        assert (bench.open, bench.cancelled) == (0, 1)


async def test_parsing_finalizers_do_not_break_next_cell() -> None:
    """Printing a traceback parses. CPython 3.11 fails if that interrupts another parser."""
    async with open_bench() as bench:
        await bench.run(
            "import ast, gc\n"
            "class D:\n"
            "    def __init__(self): self.me = self\n"
            "    def __del__(self):\n"
            "        ast.parse('a + (b * c)')\n"
            "        D()\n"  # so that there is always one more
            "D(); gc.set_threshold(1)"
        )
        for number in range(10):
            result = await bench.run("x = [(1 + 2) * 3 for _ in range(3)]\n" * 50 + f"llm_query('{number}')")
            assert result.echo == f"'echo:{number}'", show(result)
        assert (await bench.run("gc.isenabled()")).echo == "True"
