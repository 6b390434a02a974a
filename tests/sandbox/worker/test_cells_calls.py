"""Sub-calls of cells: all query functions, threads, errors in place, and the limit of open calls."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from repl_kit import Bench, open_bench, show

from rlm.core.cells import Cell
from rlm.core.errors import SandboxDiedError
from rlm.core.repl_spec import ReplLimits
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallOutcome

# name: cells, the echo of the last
ASKED: dict[str, tuple[list[str], str]] = {
    "single": (["llm_query('a')"], "'echo:a'"),
    "alias": (["rlm_query('a')"], "'echo:a'"),
    "batch": (["llm_query_batch(['a', 'b', 'c'])"], "['echo:a', 'echo:b', 'echo:c']"),
    "batch aliases": (["llm_query_batched(['a']) + rlm_query_batched(['b'])"], "['echo:a', 'echo:b']"),
    "empty batch": (["llm_query_batch([])"], "[]"),
    "tuple": (["llm_query_batch(('a', 'b'))"], "['echo:a', 'echo:b']"),
    "generator": (["llm_query_batch(str(i) for i in range(3))"], "['echo:0', 'echo:1', 'echo:2']"),
    "map": (["llm_query_batch(map(str, [1]))"], "['echo:1']"),
    "more than a frame": (["llm_query_batch([str(i) for i in range(300)]) == [f'echo:{i}' for i in range(300)]"], "True"),
    "str subclass": (["class S(str): pass\nllm_query(S('a'))"], "'echo:a'"),
    "lone surrogate": (["llm_query('\\ud800') == 'echo:\\ud800'"], "True"),
    "await single": (["await llm_query_async('a')"], "'echo:a'"),
    "await batch": (["await llm_query_batch_async(['a', 'b'])"], "['echo:a', 'echo:b']"),
    "gather": (["import asyncio\nawait asyncio.gather(*[llm_query_async(p) for p in 'ab'])"], "['echo:a', 'echo:b']"),
    "task group": (["import asyncio\nasync with asyncio.TaskGroup() as g: ts = [g.create_task(llm_query_async(p)) for p in 'ab']\n[t.result() for t in ts]"], "['echo:a', 'echo:b']"),
    "as_completed": (["import asyncio\nsorted([await f for f in asyncio.as_completed([llm_query_async('slow 1'), llm_query_async('b')])])"], "['echo:b', 'echo:slow 1']"),
    "semaphore": (["import asyncio\ns = asyncio.Semaphore(2)\nasync def one(p):\n    async with s: return await llm_query_async(p)\nawait asyncio.gather(*map(one, 'abcd'))"], "['echo:a', 'echo:b', 'echo:c', 'echo:d']"),
    "asyncio.run": (["import asyncio\nasync def main(): return await asyncio.gather(*[llm_query_async(p) for p in 'ab'])\nasyncio.run(main())"], "['echo:a', 'echo:b']"),
    "asyncio.run of a call": (["import asyncio\nasyncio.run(llm_query_batch_async(['a']))"], "['echo:a']"),
    "asyncio.run beside an await": (["import asyncio\na = await llm_query_async('a')\nb = asyncio.run(llm_query_async('b'))\na + b"], "'echo:aecho:b'"),
    "blocking call in a coroutine": (["async def f(): return llm_query('a') + await llm_query_async('b')\nawait f()"], "'echo:aecho:b'"),
    "to_thread": (["import asyncio\nawait asyncio.gather(*[asyncio.to_thread(llm_query, p) for p in 'abc'])"], "['echo:a', 'echo:b', 'echo:c']"),
    "run_in_executor and awaits mixed": (["import asyncio\nloop = asyncio.get_running_loop()\nawait asyncio.gather(*[loop.run_in_executor(None, llm_query, f't{i}') if i % 2 else llm_query_async(f'a{i}') for i in range(20)]) == [f'echo:{\"t\" if i % 2 else \"a\"}{i}' for i in range(20)]"], "True"),
    "threads": (["from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(16) as pool: r = list(pool.map(llm_query, map(str, range(100))))\nr == [f'echo:{i}' for i in range(100)]"], "True"),
    "batches in threads": (["from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as pool: r = list(pool.map(llm_query_batch, [[str(i)] * 100 for i in range(8)]))\n[len(x) for x in r], r[7][99]"], "([100, 100, 100, 100, 100, 100, 100, 100], 'echo:7')"),
    "main waits while threads ask": (["import threading\nout = []\nts = [threading.Thread(target=lambda: out.append(llm_query('slow'))) for _ in range(4)]\n[t.start() for t in ts]\nmine = llm_query('m')\n[t.join() for t in ts]\nmine, len(out)"], "('echo:m', 4)"),
    "a generator that asks": (["def follow():\n    yield 'a'\n    yield llm_query('b')\nllm_query_batch(follow())"], "['echo:a', 'echo:echo:b']"),
    "task of an earlier cell": (["import asyncio\nt = asyncio.create_task(llm_query_async('a')) if False else None\nasync def later(): return await llm_query_async('a')\nc = later()", "await c"], "'echo:a'"),
    "failed in place": (["r = llm_query_batch(['a', 'fail b', 'c'])\n[str(x) for x in r]"], "['echo:a', '[call failed: RateLimitedError: 429, try later]', 'echo:c']"),
    "FailedCall is text with an error": (["f = llm_query_batch(['fail'])[0]\nisinstance(f, str), isinstance(f, FailedCall), f.error.kind, isinstance(f.error, LLMQueryError)"], "(True, True, 'RateLimitedError', True)"),
    "filtering is one line": (["[x for x in llm_query_batch(['a', 'fail']) if not isinstance(x, FailedCall)]"], "['echo:a']"),
    "caught": (["try: llm_query('fail')\nexcept LLMQueryError as e: out = str(e)\nout"], "'RateLimitedError: 429, try later'"),
    "budget": (["try: llm_query('budget')\nexcept BudgetExceeded as e: out = str(e)\nout"], "'BudgetExceededError: no calls left'"),
    "raise after all have ended": (["try: llm_query_batch(['fail', 'slow b'], on_error='raise')\nexcept LLMQueryError as e: out = e.kind\nout"], "'RateLimitedError'"),
    "a lost call is cancelled": (["import asyncio\ntry: await asyncio.wait_for(llm_query_async('hang'), 0.05)\nexcept asyncio.TimeoutError: out = 'late'\nout, llm_query('a')"], "('late', 'echo:a')"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
async def test_query_functions(name: str) -> None:
    codes, echo = ASKED[name]
    async with open_bench() as bench:
        result = await bench.all(*codes)
        assert (result.end, result.echo) == ("ok", echo), show(result)
        assert result.notes == ()
        assert bench.open == 0
        assert (await bench.run("llm_query('again')")).echo == "'echo:again'"


REFUSED: dict[str, tuple[str, str]] = {
    "not text": ("llm_query(5)", "TypeError: prompt must be a str, not int: convert it with str(...)"),
    "dict": ("llm_query({'a': 1})", "TypeError: prompt must be a str, not dict: put what matters into one text"),
    "list": ("llm_query(['a'])", "TypeError: prompt must be a str, not list: join the texts, or use llm_query_batch"),
    "bytes": ("llm_query(b'a')", "TypeError: prompt must be a str, not bytes: decode it first"),
    "text as batch": ("llm_query_batch('abc')", "TypeError: prompts must be a list of str, not one str"),
    "dict as batch": ("llm_query_batch({'a': 'b'})", "TypeError: prompts must be a list of str, not a dict: use list(prompts.values())"),
    "number as batch": ("llm_query_batch(5)", "TypeError: prompts must be a list of str, not int"),
    "bad item": ("llm_query_batch(['a', None])", "TypeError: prompts[1] must be a str, not NoneType"),
    "unawaited prompt": ("llm_query(llm_query_async('a'))", "TypeError: prompt is a coroutine that was never awaited"),
    "async too": ("await llm_query_async(5)", "TypeError: prompt must be a str, not int"),
    "schema": ("llm_query('a', schema='x')", "TypeError: schema must be a JSON schema"),
    "model": ("llm_query('a', model=3)", "TypeError: model must be a str or None"),
    "recursive": ("llm_query('a', recursive='yes')", "TypeError: recursive must be True, False or None"),
    "on_error": ("llm_query_batch(['a'], on_error='x')", "ValueError: on_error must be"),
    "failed": ("llm_query('fail')", "LLMQueryError: RateLimitedError: 429, try later"),
    "failed, awaited": ("await llm_query_async('fail')", "LLMQueryError: RateLimitedError: 429, try later"),
    "over budget": ("llm_query('budget')", "BudgetExceeded: BudgetExceededError: no calls left"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_wrong_arguments_raise_before_sending(name: str) -> None:
    code, error = REFUSED[name]
    async with open_bench() as bench:
        result = await bench.run(code)
        assert result.end == "error"
        assert result.error is not None
        assert result.error.startswith(error)
        assert all(call.prompt in ("fail", "budget") for call in bench.calls)
        assert '"<cell 1.1>", line 1' in (result.traceback or "")
        assert "queries.py" not in (result.traceback or "")


async def test_options_reach_the_host() -> None:
    async with open_bench() as bench:
        bench.data = {"n": 1}
        schema = "{'type': 'object', 'required': ['n'], 'properties': {'n': {'type': 'integer'}}}"
        result = await bench.run(
            f"llm_query('a', context=[1, (2,)], model='m:x', schema={schema}, recursive=False)\n"
            "llm_query_batch(['b', 'c'], context=['for b', 'for c'], recursive=True)\n"
            "llm_query_batch(['d', 'e'], context='for both')\nllm_query('f')"
        )
        assert result.end == "ok", show(result)
        a, b, c, d, e, f = bench.calls
        assert [call.number for call in bench.calls] == [1, 2, 3, 4, 5, 6]
        assert (a.context, a.model, a.recursive, a.batch) == ([1, (2,)], "m:x", False, None)
        assert a.schema == {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
        assert (b.context, c.context, b.recursive) == ("for b", "for c", True)
        assert (d.context, e.context) == ("for both", "for both")
        assert b.batch == c.batch != d.batch == e.batch
        assert (f.context, f.has_context, f.schema, f.model, f.recursive) == (None, False, None, None, None)


async def test_replies_become_instances_of_types() -> None:
    """The host has checked the data. A class can still reject it, which fails that call alone."""
    define = (
        "from dataclasses import dataclass\n@dataclass\nclass Even:\n    n: int\n"
        "    def __post_init__(self):\n        if self.n % 2: raise ValueError('odd')"
    )
    async with open_bench() as bench:
        await bench.run(define)
        bench.data = {"n": 2}
        result = await bench.run("llm_query('a', schema=Even), llm_query_batch(['a'], schema=Even)")
        assert result.echo == "(Even(n=2), [Even(n=2)])"
        bench.data = {"n": 3}
        result = await bench.run("print(llm_query_batch(['a'], schema=Even))\nllm_query('a', schema=Even)")
        assert "call failed: the reply does not fit its type: ValueError: odd" in result.stdout
        assert result.error == "LLMQueryError: the reply does not fit its type: ValueError: odd"


async def test_calls_at_depth_limit_raise() -> None:
    async with open_bench(can_call=False) as bench:
        for code in (
            "llm_query('a')",
            "llm_query_batch(['a'])",
            "await llm_query_async('a')",
            "await llm_query_batch_async(['a'])",
        ):
            result = await bench.run(code)
            assert "depth limit" in (result.error or "")
        assert bench.calls == []


async def test_five_hundred_concurrent_awaits() -> None:
    async with open_bench() as bench:
        code = "import asyncio\nr = await asyncio.gather(*[llm_query_async(f'slow {i}') for i in range(500)])\nr == [f'echo:slow {i}' for i in range(500)]"
        bench.delay_s = 0.5
        result = await bench.run(code)
        assert result.echo == "True"
        assert bench.most_open == 500


@pytest.mark.parametrize("how", ["llm_query_batch", "await llm_query_batch_async"])
async def test_large_batch_keeps_window_and_order(how: str) -> None:
    async with open_bench(limits=ReplLimits(open_calls=100, cell_seconds=60)) as bench:
        result = await bench.run(
            f"r = {how}([f'p{{i}}' for i in range(5000)])\nr == [f'echo:p{{i}}' for i in range(5000)]"
        )
        assert result.echo == "True", show(result)
        assert len(bench.calls) == 5000
        assert bench.most_open <= 100
        assert len({call.batch for call in bench.calls}) == 1


async def test_gather_beyond_window_queues() -> None:
    async with open_bench(limits=ReplLimits(open_calls=7, cell_seconds=60)) as bench:
        bench.delay_s = 0.002
        result = await bench.run(
            "import asyncio\nlen(await asyncio.gather(*[llm_query_async(f'slow {i}') for i in range(200)]))"
        )
        assert result.echo == "200"
        assert bench.most_open == 7


async def test_prompt_generator_keeps_window() -> None:
    async with open_bench(limits=ReplLimits(open_calls=64, cell_seconds=100)) as bench:
        result = await bench.run("r = llm_query_batch('p' for _ in range(100_000))\nlen(r), set(r)")
        assert result.echo == "(100000, {'echo:p'})", show(result)
        assert bench.most_open <= 64


async def test_prompt_generator_runs_only_within_room() -> None:
    async with open_bench(limits=ReplLimits(open_calls=4, cell_seconds=0.3)) as bench:
        result = await bench.run(
            "made = 0\ndef prompts():\n    global made\n    for made in range(1, 1000): yield 'hang'\n"
            "import asyncio\nawait asyncio.wait_for(llm_query_batch_async(prompts()), 0.1)"
        )
        assert result.error == "TimeoutError", show(result)
        assert (await bench.run("made")).echo == "4"


async def test_failing_prompt_generator_cancels_open_calls() -> None:
    async with open_bench() as bench:
        code = "def stop():\n    for _ in range(64): yield 'hang'\n    raise ValueError('no more')\nllm_query_batch(stop())"
        assert (await bench.run(code)).error == "ValueError: no more"
        assert (bench.cancelled, bench.open) == (len(bench.calls), 0)


async def test_prompts_and_answers_of_many_megabytes() -> None:
    async with open_bench(limits=ReplLimits(cell_seconds=60)) as bench:
        result = await bench.run(
            "big = 'é' * 6_000_000\nr = llm_query_batch([big, 'x', big])\n[len(x) for x in r], r[2][5:] == big"
        )
        assert result.echo == "([6000005, 6, 6000005], True)", show(result)


async def test_run_error_ends_cell_and_propagates() -> None:
    async with open_bench() as bench:
        with pytest.raises(ConnectionError, match="the run is broken"):
            await bench.run("try: llm_query_batch(['hang', 'boom'])\nexcept BaseException: print('swallowed')")
        assert (bench.open, bench.cancelled) == (0, 1)
        with pytest.raises(SandboxDiedError):
            await bench.run("1")


async def test_cancelling_stops_calls_and_cell() -> None:
    async with open_bench() as bench:
        running = asyncio.create_task(bench.run("llm_query_batch(['hang'] * 10)"))
        while bench.open < 10:
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (bench.open, bench.cancelled) == (0, 10)


async def test_calls_of_leftover_threads_are_refused() -> None:
    async with open_bench() as bench:
        await bench.run(
            "import threading, time\nerrors = []\nstop = threading.Event()\n"
            "def work():\n    while not stop.is_set():\n        try: llm_query('t')\n        except LLMQueryError as e: errors.append(e.kind); time.sleep(0.01)\n"
            "t = threading.Thread(target=work); t.start(); time.sleep(0.05)"
        )
        count = len(bench.calls)
        await asyncio.sleep(0.1)
        assert len(bench.calls) == count
        result = await bench.run("stop.set(); t.join(); set(errors) <= {'NoCell', 'CellEnded'} and len(errors) > 0")
        assert result.echo == "True"


async def test_waits_are_measured_separately() -> None:
    async with open_bench(limits=ReplLimits(cell_seconds=0.6)) as bench:
        bench.delay_s = 1.0
        result = await bench.run("llm_query('slow')")
        assert result.end == "ok", show(result)
        assert 0.9 < result.waited_s <= result.elapsed_s < 5


async def _interleave(benches: Sequence[Bench], code: str) -> list[str]:
    return [result.stdout for result in await asyncio.gather(*(bench.run(code) for bench in benches))]


async def test_output_of_repls_never_mixes() -> None:
    async with open_bench() as one, open_bench() as two:
        await asyncio.gather(one.run("me = 'one'"), two.run("me = 'two'"))
        outs = await _interleave([one, two], "for i in range(20):\n    print(me, i)\n    llm_query('slow')")
        assert outs == ["".join(f"{me} {i}\n" for i in range(20)) for me in ("one", "two")]


async def test_repl_runs_one_cell_at_a_time() -> None:
    async with open_bench() as bench:
        running = asyncio.create_task(bench.run("llm_query('slow')"))
        await asyncio.sleep(0.01)
        with pytest.raises(RuntimeError, match="one cell at a time"):
            await bench.run("1")
        assert (await running).end == "ok"


async def test_answers_arrive_while_others_wait() -> None:
    """A slow call does not delay the answers of later ones."""
    release = asyncio.Event()

    async def serve(subcall: Subcall) -> SubcallOutcome:
        assert isinstance(subcall, ModelQuery)
        if subcall.prompt == "first":
            await release.wait()
        else:
            release.set()
        return SubcallAnswer(subcall.prompt)

    async with open_bench() as bench:
        result = await bench.repl.execute(Cell(1, 1, "llm_query_batch(['first', 'second'])"), serve)
        assert result.echo == "['first', 'second']"


async def test_waiting_for_model_costs_no_processor_time() -> None:
    """A worker busy-waits briefly for an answer from a cache, and sleeps while a real model works."""
    calls, delay_s = 25, 0.04
    code = f"import time\nbegan = time.process_time()\nfor _ in range({calls}):\n    llm_query('a'), llm_query('slow')\ntime.process_time() - began"
    async with open_bench() as bench:
        bench.delay_s = delay_s
        result = await bench.run(code)
        assert float(result.echo or "inf") < 0.25 * calls * delay_s, show(result)


async def test_cell_without_memory_for_its_calls_gets_error() -> None:
    """A call that cannot be sent is not counted as open."""
    code = "import asyncio\nawait asyncio.gather(*(llm_query_async('x' * (20 << 20)) for _ in range(40)))"
    async with open_bench(limits=ReplLimits(cell_seconds=30, memory_mb=400)) as bench:
        result = await bench.run(code)
        assert result.end in {"error", "died"}, show(result)
        assert (await bench.run("llm_query('again')")).end == "ok"
