"""Answers given from code, in all forms, with all traps."""

# ruff: noqa: E501  a row of a table is one line

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pytest
from repl_kit import open_bench, show

from rlm.core.cells import Answer

GIVEN: dict[str, tuple[list[str], object]] = {
    "FINAL": (["FINAL('yes')"], "yes"),
    "keeps types": (["FINAL({'a': (1, 2.5), 3: {4}, None: [b'x', True]})"], {"a": (1, 2.5), 3: {4}, None: [b"x", True]}),
    "dates and decimals": (["import datetime, decimal\nFINAL([datetime.date(2026, 1, 2), datetime.timedelta(1), decimal.Decimal('1.10')])"], [dt.date(2026, 1, 2), dt.timedelta(1), Decimal("1.10")]),
    "large integer": (["FINAL(10 ** 5000)"], 10**5000),
    "None": (["FINAL(None)"], None),
    "empty": (["FINAL('')"], ""),
    "other objects as text": (["class P:\n    def __str__(self): return 'p!'\nFINAL([P()])"], ["p!"]),
    "str() that raises": (["class P:\n    def __str__(self): raise ValueError\nFINAL(P())"], "<P object whose str() raised ValueError>"),
    "subclasses are plain": (["import collections\nclass S(str): pass\nFINAL([S('s'), collections.Counter('aab'), collections.namedtuple('T', 'x')(1)])"], ["s", {"a": 2, "b": 1}, (1,)]),
    "FINAL_VAR by name": (["r = [1]\nFINAL_VAR('r')"], [1]),
    "FINAL_VAR in quotes": (["r = [1]\nFINAL_VAR('\"r\"')"], [1]),
    "FINAL_VAR of the value": (["r = [1]\nFINAL_VAR(r)"], [1]),
    "FINAL_VAR of a text value": (["r = 'the final text'\nFINAL_VAR(r)"], "the final text"),
    "FINAL_VAR of one word": (["r = llm_query('x').replace('echo:', 'Paris')[:5]\nFINAL_VAR(r)"], "Paris"),
    "FINAL_VAR of an earlier cell": (["r = 8", "FINAL_VAR('r')"], 8),
    "SUBMIT": (["SUBMIT('yes')"], "yes"),
    "SUBMIT fields": (["SUBMIT(a=1, b=[2])"], {"a": 1, "b": [2]}),
    "answer": (["answer['content'] = 'c'\nanswer['ready'] = True"], "c"),
    "answer the other way round": (["answer['ready'] = True\nanswer['content'] = 'c'"], "c"),
    "answer.update": (["answer.update(ready=True, content=[1])"], [1]),
    "answer over two cells": (["answer['content'] = 'c'", "answer['ready'] = True"], "c"),
    "answer replaced by a dict": (["answer = {'content': 'c', 'ready': True}"], "c"),
    "FINAL(answer)": (["answer['content'] = 'c'\nFINAL(answer)"], "c"),
    "FINAL of an own variable named answer": (["answer = 'mine'", "FINAL(answer)"], "mine"),
    "ends the cell": (["x = 1\nFINAL(x)\nx = 2\nprint('not reached')"], 1),
    "the first wins": (["try: FINAL(1)\nexcept BaseException: pass\nFINAL(2)"], 1),
    "swallowed": (["try: FINAL(1)\nexcept: pass\nx = 2"], 1),
    "passes except Exception": (["try: FINAL(1)\nexcept Exception: x = 2"], 1),
    "swallowed, then an error": (["try: FINAL(1)\nexcept BaseException: pass\n1 / 0"], 1),
    "in a function": (["def f():\n    for i in range(9):\n        if i == 3: FINAL(i)\nf()"], 3),
    "in a thread": (["import threading\nt = threading.Thread(target=FINAL, args=('t',)); t.start(); t.join()"], "t"),
    "in a pool": (["from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as p: list(p.map(FINAL, [5]))"], 5),
    "in a coroutine": (["async def f(): FINAL(1)\nawait f()"], 1),
    "in a task": (["import asyncio\nasync def f(): FINAL(1)\nt = asyncio.create_task(f())\nawait asyncio.sleep(30)"], 1),
    "in gather": (["import asyncio\nasync def f(i):\n    await asyncio.sleep(0)\n    if i == 2: FINAL(i)\nawait asyncio.gather(*map(f, range(4)))"], 2),
    "in asyncio.run": (["import asyncio\nasync def f(): FINAL(await llm_query_async('q'))\nasyncio.run(f())"], "echo:q"),
    "in asyncio.run beside an await": (["import asyncio\nasync def f(): FINAL(1)\nawait asyncio.sleep(0)\nasyncio.run(f())"], 1),
    "half a megabyte": (["FINAL([(i, str(i)) for i in range(26_000)])"], [(i, str(i)) for i in range(26_000)]),
    "the context": (["FINAL(context)"], "the context"),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
async def test_an_answer_is_given(name: str) -> None:
    codes, value = GIVEN[name]
    async with open_bench() as bench:
        result = await bench.all(*codes)
        assert result.answer == Answer(value), show(result)
        assert type(result.answer.value) is type(value)
        assert "not reached" not in result.stdout
        after = await bench.run("print(2)")
        assert (after.answer, after.stdout) == (None, "2\n")


NOT_GIVEN: dict[str, tuple[list[str], str | None]] = {
    "not ready": (["answer['content'] = 'c'"], None),
    "ready is text": (["answer['content'] = 'c'\nanswer['ready'] = 'no'"], None),
    "own answer": (["answer = 'text'"], None),
    "own dict": (["answer = {'content': 'c'}"], None),
    "unknown variable": (["FINAL_VAR('missing')"], "NameError: FINAL_VAR: there is no variable named 'missing'. Defined: none"),
    "coroutine": (["FINAL(llm_query_async('a'))"], "TypeError: FINAL was given a coroutine that was never awaited: write FINAL(await ...)"),
    "nothing": (["FINAL()"], "TypeError: Scaffold.final() missing 1 required positional argument: 'value'"),
    "two": (["SUBMIT(1, 2)"], "TypeError: SUBMIT takes one value, or fields by name: SUBMIT(x) or SUBMIT(a=1, b=2)"),
    "mentioned only": (["# FINAL('x')\ns = \"FINAL('x')\""], None),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_GIVEN)
async def test_no_answer_is_given(name: str) -> None:
    codes, error = NOT_GIVEN[name]
    async with open_bench() as bench:
        result = await bench.all(*codes)
        assert result.answer is None
        assert result.error == error


async def test_nan_and_infinity_round_trip() -> None:
    async with open_bench() as bench:
        result = await bench.run("FINAL([float('nan'), float('-inf')])")
        assert result.answer is not None
        assert isinstance(result.answer.value, list)
        nan, infinity = result.answer.value
        assert math.isnan(nan)
        assert infinity == -math.inf


async def test_cyclic_and_deep_answers() -> None:
    async with open_bench() as bench:
        inside = await bench.run("x = [1]\nx.append(x)\nFINAL(x)")
        assert inside.answer == Answer([1, "[1, [...]]"])
        deep = await bench.run("x = 'core'\nfor _ in range(50_000): x = [x]\nFINAL(x)")
        assert deep.end == "ok", show(deep)
        assert deep.answer is not None


async def test_output_before_answer_is_retained() -> None:
    async with open_bench() as bench:
        result = await bench.run("print('before')\nFINAL(1)")
        assert (result.stdout, result.end, result.answer) == ("before\n", "ok", Answer(1))
