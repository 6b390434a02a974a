# ruff: noqa: E501  programs in one line each
"""Prefetching in sequential code: the same results, output, variables and calls, in less time, and no call too many."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from zygote_kit import AVAILABLE, is_alive, sandbox_at, vanish

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.sandbox.repl import WorkerRepl
from rlm.sandbox.sandbox import WorkerSandbox

pytestmark = pytest.mark.skipif("strict" not in AVAILABLE, reason="copies are made at level strict only")

AHEAD = ReplLimits(cell_seconds=20, memory_mb=256, prefetch_ahead=16)
LATENCY_S = 0.2  # a copy on a loaded machine must still be first


class Asked:
    """A REPL with a slow model behind it that answers ``echo:PROMPT``; "fail ..." fails."""

    def __init__(self, repl: WorkerRepl) -> None:
        self.repl = repl
        self.calls: list[ModelQuery] = []
        self.latency_s = LATENCY_S
        self.data: PlainValue = None
        self.cancelled = 0
        self._cells = 0

    async def serve(self, subcall: Subcall) -> SubcallOutcome:
        assert isinstance(subcall, ModelQuery)
        self.calls.append(subcall)
        try:
            await asyncio.sleep(self.latency_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if subcall.prompt.startswith("fail"):
            return SubcallFailure("RateLimitedError", "429, try later")
        return SubcallAnswer(self.data if subcall.schema is not None else f"echo:{subcall.prompt}")

    async def run(self, code: str) -> CellResult:
        self._cells += 1
        self.calls.clear()
        return await self.repl.execute(Cell(1, self._cells, code), self.serve)

    def children(self) -> list[str]:
        """Child processes of the REPL's process."""
        assert self.repl._worker is not None
        pid = self.repl._worker.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()

    @property
    def prompts(self) -> list[str]:
        return [call.prompt for call in self.calls]


@pytest.fixture
async def sandbox() -> AsyncIterator[WorkerSandbox]:
    async with sandbox_at("strict") as opened:
        yield opened


@asynccontextmanager
async def asked(sandbox: WorkerSandbox, limits: ReplLimits = AHEAD) -> AsyncIterator[Asked]:
    repl = await sandbox.open(ReplSpec("one two three four", limits=limits))
    try:
        yield Asked(repl)
    finally:
        await repl.aclose()


LOOPS = {
    "a loop": "out = []\nfor i in range(10):\n    out.append(llm_query(f'ask {i}'))",
    "a comprehension": "out = [llm_query(f'ask {i}') for i in range(10)]",
    "a comprehension of a dict": "found = {i: llm_query(f'ask {i}') for i in range(10)}\nout = list(found.values())",
    "map": "out = list(map(llm_query, [f'ask {i}' for i in range(10)]))",
    "a function": "def f(i):\n    return llm_query(f'ask {i}').strip()\nout = [f(i) for i in range(10)]",
    "prints": "out = []\nfor i in range(10):\n    r = llm_query(f'ask {i}')\n    print(f'{i}: {r[:4]}', r, flush=True)\n    out.append(r)",
    "text made of answers": (
        "out = []\nall = ''\nfor i in range(10):\n    r = llm_query('ask %d' % i).strip().lower()\n    out.append(f'{r}')\n"
        "    all += '\\n- ' + r\n    line = '{}: {}'.format(i, r)\n    joined = ', '.join(out)\n    mod = '%s %s' % (i, r)"
    ),
    "exceptions that are caught": (
        "out = []\nfor i in range(10):\n    try:\n        out.append(llm_query(f'ask {i}'))\n    except LLMQueryError:\n        pass"
    ),
    "clocks and pauses": (
        "import time\nfrom time import perf_counter\nout = []\nfor i in range(10):\n    t, u = time.time(), perf_counter()\n"
        "    out.append(llm_query(f'ask {i}'))\n    print(f'{time.time() - t:.2f} s', round(perf_counter() - u, 1))\n    time.sleep(0.001)"
    ),
    "chance": (
        "import random\nrandom.seed(7)\nout, sent = [], []\nfor i in range(10):\n    sent.append(random.random())\n"
        "    out.append(llm_query(f'ask {i}', context=[sent[-1]]))"
    ),
    "nested loops": "out = []\nfor i in range(2):\n    for j in range(5):\n        out.append(llm_query(f'ask {5 * i + j}'))",
    "batches of one call each": "out = [llm_query(f'ask {i}', recursive=False, context={'n': i}) for i in range(10)]",
}


@pytest.mark.parametrize("code", LOOPS.values(), ids=LOOPS)
async def test_sequential_calls_run_in_parallel(sandbox: WorkerSandbox, code: str) -> None:
    async with asked(sandbox) as bench:
        bench.latency_s = 0.5
        result = await bench.run(code)
        assert (result.error, result.end) == (None, "ok")
        assert bench.prompts == [f"ask {i}" for i in range(10)]
        assert (result.prefetched, result.prefetches_used) == (9, 9)
        assert [call.prefetched for call in bench.calls] == [False] + [True] * 9
        assert await bench.repl.read("out") == [f"echo:ask {i}" for i in range(10)]
        assert result.elapsed_s < 2.5


GROUPS = "groups = [[f'ask {2 * i + j}' for j in range(2)] for i in range(6)]\nout = []\n"
BATCH_LOOPS = {
    "lists": "for group in groups:\n    out += llm_query_batch(group)",
    "generators": "for group in groups:\n    out += llm_query_batch(prompt for prompt in group)",
    "a comprehension": "out = [reply for group in groups for reply in llm_query_batch(group)]",
    "zipped, stripped, printed": (
        "for group in groups:\n    for prompt, reply in zip(group, llm_query_batch(group)):\n"
        "        out.append(reply.strip())\n        print(f'{prompt}: {reply[:3]}')"
    ),
    "slices, errors raised": "flat = sum(groups, [])\nfor i in range(0, 12, 2):\n    out.extend(llm_query_batch(flat[i:i + 2], on_error='raise'))",
    "a helper": "def ask(group):\n    return [r for r in llm_query_batch(group, context='data')]\nfor group in groups:\n    out += ask(group)",
    "an empty one between": "for group in [groups[0], [], *groups[1:]]:\n    out += llm_query_batch(group)",
}


@pytest.mark.parametrize("code", BATCH_LOOPS.values(), ids=BATCH_LOOPS)
async def test_sequential_batches_run_in_parallel(sandbox: WorkerSandbox, code: str) -> None:
    async with asked(sandbox) as bench:
        bench.latency_s = 0.5
        result = await bench.run(GROUPS + code)
        assert (result.error, result.end) == (None, "ok")
        assert sorted(bench.prompts, key=lambda prompt: int(prompt[4:])) == [f"ask {i}" for i in range(12)]
        assert (result.prefetched, result.prefetches_used) == (10, 10)
        assert await bench.repl.read("out") == [f"echo:ask {i}" for i in range(12)]
        assert result.elapsed_s < 2.0
        batches = [call.batch for call in bench.calls]
        assert None not in batches
        assert len(set(batches)) == 6


async def test_batches_and_single_calls_prefetch_together(sandbox: WorkerSandbox) -> None:
    code = "out = []\nfor i in range(4):\n    out.append(llm_query(f'one {i}'))\n    out += llm_query_batch([f'a {i}', f'b {i}'])"
    async with asked(sandbox) as bench:
        bench.latency_s = 0.5
        result = await bench.run(code)
        assert Counter(bench.prompts) == Counter(f"{name} {i}" for i in range(4) for name in ("one", "a", "b"))
        assert (result.prefetched, result.prefetches_used) == (11, 11)
        assert await bench.repl.read("out") == [f"echo:{name} {i}" for i in range(4) for name in ("one", "a", "b")]


DECIDED_BATCHES = {
    "a decision": "for i in range(6):\n    if 'ask 0' in llm_query_batch([f'ask {i}'])[0]:\n        break",
    "a failure looked for": "for i in range(6):\n    if not hasattr(llm_query_batch([f'ask {i}'])[0], 'error'):\n        break",
    "a failure filtered": "for i in range(6):\n    if [r for r in llm_query_batch([f'ask {i}']) if not isinstance(r, FailedCall)]:\n        break",
    "membership": "for i in range(6):\n    if 'x' not in llm_query_batch([f'ask {i}']):\n        break",
}


@pytest.mark.parametrize("code", DECIDED_BATCHES.values(), ids=DECIDED_BATCHES)
async def test_calls_that_depend_on_batch_are_not_prefetched(sandbox: WorkerSandbox, code: str) -> None:
    async with asked(sandbox) as bench:
        result = await bench.run(code)
        assert (bench.prompts, result.prefetched) == (["ask 0"], 0)


async def test_dependent_batch_waits_for_previous_one(sandbox: WorkerSandbox) -> None:
    code = "r = ['start']\nfor i in range(5):\n    r = llm_query_batch([each[-20:] + str(i) for each in r])"
    async with asked(sandbox) as bench:
        result = await bench.run(code)
        assert (len(bench.calls), result.prefetched) == (5, 0)


async def test_full_width_batch_is_not_prefetched(sandbox: WorkerSandbox) -> None:
    code = "out = [llm_query_batch([f'{i} {j}' for j in range(20)]) for i in range(3)]"
    async with asked(sandbox) as bench:
        result = await bench.run(code)
        assert (len(bench.calls), result.prefetched) == (60, 0)


async def test_failed_item_of_prefetched_batch_keeps_place(sandbox: WorkerSandbox) -> None:
    code = "out = []\nfor group in (['a', 'b'], ['c', 'fail'], ['d']):\n    out += llm_query_batch(group)\nbad = [hasattr(r, 'error') for r in out]"
    async with asked(sandbox) as bench:
        bench.latency_s = 0.5
        result = await bench.run(code)
        assert (result.prefetched, result.prefetches_used) == (3, 3)
        assert await bench.repl.read("bad") == [False, False, False, True, False]


async def test_helpers_of_earlier_cells_are_prefetched(sandbox: WorkerSandbox) -> None:
    async with asked(sandbox) as bench:
        await bench.run("def label(text):\n    reply = llm_query(f'label {text}')\n    return f'{text}={reply}'")
        result = await bench.run("labels = [label(word) for word in context.split()]")
        assert (result.prefetched, result.prefetches_used) == (3, 3)
        assert await bench.repl.read("labels") == [
            f"{word}=echo:label {word}" for word in ("one", "two", "three", "four")
        ]


DECISIONS = {
    "an early break": "for i in range(20):\n    if '0' in llm_query(f'ask {i}'):\n        break",
    "equality": "for i in range(20):\n    if llm_query(f'ask {i}') == 'echo:ask 0':\n        break",
    "truth": "for i in range(20):\n    if llm_query(f'ask {i}'):\n        break",
    "length": "for i in range(20):\n    if len(llm_query(f'ask {i}')) > 3:\n        break",
    "a decision on text made of it": "for i in range(20):\n    if '0' in f'reply: {llm_query(f\"ask {i}\")}!':\n        break",
    "a regular expression": "import re\nfor i in range(20):\n    if re.search('ask', llm_query(f'ask {i}')):\n        break",
    "a compiled one": "import re\nx = re.compile('ask')\nfor i in range(20):\n    if x.findall(llm_query(f'ask {i}')):\n        break",
    "json": "import json\nfor i in range(20):\n    if json.dumps([llm_query(f'ask {i}')]):\n        break",
    "a dict": "seen = {}\nfor i in range(20):\n    if {llm_query(f'ask {i}'): 1}:\n        break",
    "a join in C": "for i in range(20):\n    if str.join('', [llm_query(f'ask {i}')]) > 'e':\n        break",
    "sorting": "out = []\nfor i in range(20):\n    out.append(llm_query(f'ask {i}'))\n    if sorted(out + ['z'])[0] < 'f':\n        break",
    "its class": "for i in range(20):\n    if not isinstance(llm_query(f'ask {i}'), FailedCall):\n        break",
    "a clock": "import time\nend = time.time() - 1\nfor i in range(20):\n    llm_query(f'ask {i}')\n    if time.time() > end:\n        break",
    "a clock of datetime": (
        "from datetime import datetime\nend = datetime.now()\nfor i in range(20):\n    llm_query(f'ask {i}')\n"
        "    if datetime.now() > end:\n        break"
    ),
    "an answer": "for i in range(20):\n    llm_query(f'ask {i}')\n    FINAL(i)",
    "an error": "for i in range(20):\n    llm_query(f'ask {i}')\n    1 / 0",
}


@pytest.mark.parametrize("code", DECISIONS.values(), ids=DECISIONS)
async def test_calls_that_depend_on_answer_are_not_prefetched(sandbox: WorkerSandbox, code: str) -> None:
    async with asked(sandbox) as bench:
        result = await bench.run(code)
        assert bench.prompts == ["ask 0"]
        assert result.prefetched == 0


async def test_dependent_chain_keeps_order_without_duplicates(sandbox: WorkerSandbox) -> None:
    async with asked(sandbox) as bench:
        bench.latency_s = 0.01
        result = await bench.run("r = 'start'\nfor i in range(12):\n    r = llm_query(r[-20:] + str(i))\n")
        assert len(bench.calls) == 12
        assert result.prefetched == 0


async def test_independent_calls_before_decision_run_together(sandbox: WorkerSandbox) -> None:
    code = "n = 0\nfor i in range(5):\n    a = llm_query(f'a {i}')\n    b = llm_query(f'b {i}')\n    n += len(a + b)\n"
    async with asked(sandbox) as bench:
        result = await bench.run(code)
        assert bench.prompts == [f"{name} {i}" for i in range(5) for name in "ab"]
        assert (result.prefetched, result.prefetches_used) == (5, 5)


async def test_prefetched_failure_is_raised_at_its_call(sandbox: WorkerSandbox) -> None:
    code = (
        "out = []\nfor word in ['fine', 'fail', 'good']:\n    try:\n        out.append(llm_query(word))\n"
        "    except LLMQueryError as error:\n        out.append(error.kind)"
    )
    async with asked(sandbox) as bench:
        await bench.run(code)
        assert await bench.repl.read("out") == ["echo:fine", "RateLimitedError", "echo:good"]


async def test_unused_prefetches_are_cancelled_and_counted(sandbox: WorkerSandbox) -> None:
    """The one accepted exception: code between two calls raises, because the first call failed."""
    async with asked(sandbox) as bench:
        result = await bench.run("llm_query('fail at once')\nfor i in range(5):\n    llm_query(f'ask {i}')")
        assert result.end == "error"
        assert (result.prefetched, result.prefetches_used) == (5, 0)
        assert result.notes == ()
        after = await bench.run("r = llm_query('ask 0')")
        assert (after.end, bench.prompts) == ("ok", ["ask 0"])


async def test_schema_placeholder_supports_required_fields(sandbox: WorkerSandbox) -> None:
    schema = "{'type': 'object', 'properties': {'name': {'type': 'string'}}, 'required': ['name']}"
    async with asked(sandbox) as bench:
        bench.data = {"name": "Ada"}
        result = await bench.run(
            f"names = [llm_query(f'who {{i}}', schema={schema})['name'].upper() for i in range(5)]"
        )
        assert (result.error, result.prefetched, result.prefetches_used) == (None, 4, 4)
        assert await bench.repl.read("names") == ["ADA"] * 5


async def test_prefetches_stay_within_limit(sandbox: WorkerSandbox) -> None:
    async with asked(sandbox, ReplLimits(cell_seconds=20, prefetch_ahead=3)) as bench:
        open_now = most = 0

        async def serve(subcall: Subcall) -> SubcallOutcome:
            assert isinstance(subcall, ModelQuery)
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.05)
            open_now -= 1
            return SubcallAnswer(subcall.prompt)

        result = await bench.repl.execute(Cell(1, 1, "out = [llm_query(str(i)) for i in range(20)]"), serve)
        assert await bench.repl.read("out") == [str(i) for i in range(20)]
        assert 3 <= most <= 4
        assert result.prefetches_used >= 15


PARALLEL = {
    "threads": (
        "import concurrent.futures as c\nwith c.ThreadPoolExecutor(4) as pool:\n    out = list(pool.map(llm_query, ['a', 'b']))"
    ),
    "asyncio": "out = await llm_query_batch_async(['a', 'b'])",
    "a plain call beside a thread": (
        "import threading\nstop = threading.Event()\nthreading.Thread(target=stop.wait).start()\n"
        "out = [llm_query(x) for x in 'ab']\nstop.set()"
    ),
    "a plain call in a coroutine": "async def f():\n    return [llm_query(x) for x in 'ab']\nout = await f()",
    "a batch": "out = llm_query_batch(['a', 'b'])",
}


@pytest.mark.parametrize("code", PARALLEL.values(), ids=PARALLEL)
async def test_parallel_code_is_not_prefetched(sandbox: WorkerSandbox, code: str) -> None:
    async with asked(sandbox) as bench:
        result = await bench.run(code)
        assert (result.error, result.prefetched) == (None, 0)
        assert await bench.repl.read("out") == ["echo:a", "echo:b"]


@pytest.mark.parametrize("level", [level for level in AVAILABLE if level != "strict"])
async def test_levels_without_forks_do_not_prefetch(level: str) -> None:
    async with sandbox_at(level) as sandbox, asked(sandbox) as bench:
        result = await bench.run("out = [llm_query(x) for x in 'abc']")
        assert (result.error, result.prefetched, bench.prompts) == (None, 0, ["a", "b", "c"])


BOMB = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
def fork():
    return libc.syscall(ctypes.c_long(%d), ctypes.c_long(17), 0, 0, 0, 0)
made = 0
for _ in range(50):
    pid = fork()
    if pid == 0:
        while True:
            fork()
    made += pid > 0
print(made)
"""


async def test_fork_bomb_stops_at_one_process(sandbox: WorkerSandbox) -> None:
    number = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
    async with asked(sandbox) as bench:
        result = await bench.run(BOMB % number)
        assert result.stdout == "1\n"
        children = bench.children()
        assert len(children) == 1
        assert is_alive(int(children[0]))
    assert await vanish(int(children[0])) == []


async def test_os_fork_stays_forbidden(sandbox: WorkerSandbox) -> None:
    async with asked(sandbox) as bench:
        result = await bench.run("import os\nos.fork()")
        assert result.error is not None
        assert result.error.startswith("PermissionError")


async def test_copies_end_with_their_cell(sandbox: WorkerSandbox) -> None:
    code = "import os\nfirst = os.getpid()\nllm_query('ask')\nwhile os.getpid() != first:\n    pass\n"
    async with asked(sandbox) as bench:
        result = await bench.run(code)
        assert result.end == "ok"
        assert bench.children() == []


async def test_stopped_cell_cancels_prefetches(sandbox: WorkerSandbox) -> None:
    async with asked(sandbox) as bench:
        bench.latency_s = 30
        task = asyncio.create_task(bench.run("for i in range(10):\n    llm_query(f'ask {i}')"))
        began = time.monotonic()
        while len(bench.calls) < 10 and time.monotonic() - began < 5:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (len(bench.calls), bench.cancelled) == (10, 10)


async def test_equal_prompts_are_sent_equally_often(sandbox: WorkerSandbox) -> None:
    async with asked(sandbox) as bench:
        result = await bench.run("out = [llm_query('the same') for i in range(6)]")
        assert Counter(bench.prompts) == {"the same": 6}
        assert result.prefetches_used == 5
