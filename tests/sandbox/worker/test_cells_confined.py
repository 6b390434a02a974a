"""Cells work in the strongest confinement of this machine as they do in a plain process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from repl_kit import Bench
from test_cells import ERRORS, NOTES, PLAIN
from test_cells_answers import GIVEN
from test_cells_calls import ASKED

from rlm.core.cells import Answer
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.sandbox.launchers.levels import find_level, open_launcher
from rlm.sandbox.sandbox import WorkerSandbox

pytestmark = [
    pytest.mark.skipif(find_level().best is None, reason="this machine offers no confinement"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[WorkerSandbox]:
    """One zygote for the whole file, because a REPL then costs milliseconds."""
    opened = WorkerSandbox(open_launcher("auto"))
    yield opened
    await opened.aclose()


async def open_in(sandbox: WorkerSandbox, seconds: float = 20) -> Bench:
    return Bench(await sandbox.open(ReplSpec("the context", limits=ReplLimits(cell_seconds=seconds))))


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_cells(sandbox: WorkerSandbox, name: str) -> None:
    codes, end, stdout, echo = PLAIN[name]
    bench = await open_in(sandbox)
    result = await bench.all(*codes)
    assert (result.end, result.stdout, result.echo, result.state_lost) == (end, stdout, echo, False)
    await bench.repl.aclose()


@pytest.mark.parametrize("name", ERRORS)
async def test_errors(sandbox: WorkerSandbox, name: str) -> None:
    codes, error, lines = ERRORS[name]
    bench = await open_in(sandbox)
    result = await bench.all(*codes)
    assert result.error == error
    assert [line for line in lines if line not in (result.traceback or "")] == []
    await bench.repl.aclose()


@pytest.mark.parametrize("name", NOTES)
async def test_notes(sandbox: WorkerSandbox, name: str) -> None:
    codes, texts = NOTES[name]
    bench = await open_in(sandbox)
    result = await bench.all(*codes)
    assert [text for text in texts if text not in "\n".join(result.notes)] == []
    await bench.repl.aclose()


@pytest.mark.parametrize("name", ASKED)
async def test_query_functions(sandbox: WorkerSandbox, name: str) -> None:
    codes, echo = ASKED[name]
    bench = await open_in(sandbox)
    result = await bench.all(*codes)
    assert (result.end, result.echo) == ("ok", echo)
    await bench.repl.aclose()


@pytest.mark.parametrize("name", GIVEN)
async def test_answers(sandbox: WorkerSandbox, name: str) -> None:
    codes, value = GIVEN[name]
    bench = await open_in(sandbox)
    assert (await bench.all(*codes)).answer == Answer(value)
    await bench.repl.aclose()


@pytest.mark.parametrize(("code", "lost"), [("while True: pass", False), ("sum(range(10**12))", True)])
async def test_stopping(sandbox: WorkerSandbox, code: str, lost: bool) -> None:
    bench = await open_in(sandbox, seconds=0.3)
    await bench.run("kept = 1")
    result = await bench.run(code)
    assert (result.end, result.state_lost) == ("timeout", lost)
    assert (await bench.run("'kept' in globals()")).echo == str(not lost)
    await bench.repl.aclose()


async def test_death(sandbox: WorkerSandbox) -> None:
    bench = await open_in(sandbox)
    result = await bench.run("print('before')\nimport os; os._exit(4)")
    assert (result.end, result.stdout, result.error) == ("died", "before\n", "the process exited with status 4")
    assert (await bench.run("context")).echo == "'the context'"
    await bench.repl.aclose()


async def test_memory(sandbox: WorkerSandbox) -> None:
    bench = Bench(await sandbox.open(ReplSpec("c", limits=ReplLimits(memory_mb=200, cell_seconds=20))))
    result = await bench.run("kept = 7\nxs = []\nwhile True: xs.append('x' * 1_000_000)")
    assert (result.end, (result.error or "").split(":")[0]) == ("error", "MemoryError")
    assert (await bench.run("del xs\nkept")).echo == "7"
    await bench.repl.aclose()
