"""Cells behave as in a notebook. Each row holds the cells of one fresh REPL and the result of the last one."""

# ruff: noqa: E501  a row of a table is one line
from __future__ import annotations

import sys

import pytest
from repl_kit import SHORT, open_bench, show

from rlm.core.cells import CellEnd, Variable
from rlm.core.repl_spec import ReplLimits

# name: cells, end of the last one, its stdout, its echo
NULL_BYTE = "SyntaxError" if sys.version_info >= (3, 11, 4) else "ValueError"

PLAIN: dict[str, tuple[list[str], CellEnd, str, str | None]] = {
    "print": (["print('a', 1)"], "ok", "a 1\n", None),
    "echo of the last expression": (["x = 3\nx * 2"], "ok", "", "6"),
    "no echo of None": (["None"], "ok", "", None),
    "no echo of a statement": (["y = 5"], "ok", "", None),
    "echo is bound to _": (["6 * 7", "_ + 1"], "ok", "", "43"),
    "names persist": (["a = 1", "a += 1", "a"], "ok", "", "2"),
    "functions see later values": (["def f(): return later", "later = 9", "f()"], "ok", "", "9"),
    "recursion": (["def fac(n): return 1 if n < 2 else n * fac(n - 1)", "fac(10)"], "ok", "", "3628800"),
    "classes": (["class A:\n    n = 2\n    def m(self): return self.n", "class B(A): n = 3", "B().m()"], "ok", "", "3"),
    "dataclasses": (
        [
            "from dataclasses import dataclass, asdict",
            "@dataclass\nclass P:\n    x: int\n    y: 'int' = 2",
            "asdict(P(1))",
        ],
        "ok",
        "",
        "{'x': 1, 'y': 2}",
    ),
    "dataclass repr has a plain name": (
        ["from dataclasses import dataclass\n@dataclass\nclass P: x: int\nP(1)"],
        "ok",
        "",
        "P(x=1)",
    ),
    "enum and namedtuple": (
        [
            "import enum, collections\nclass C(enum.Enum):\n    RED = 1\nT = collections.namedtuple('T', 'a b')",
            "T(C.RED, 2)",
        ],
        "ok",
        "",
        "T(a=<C.RED: 1>, b=2)",
    ),
    "pickle finds classes by name": (
        ["import pickle\nclass K: v = 1", "type(pickle.loads(pickle.dumps(K()))).v"],
        "ok",
        "",
        "1",
    ),
    "comprehensions see globals": (["n = 3\n[i * n for i in range(n)]"], "ok", "", "[0, 3, 6]"),
    "nested functions and comprehensions": (
        ["def g(k): return [h(i) for i in range(k)]\ndef h(i): return i + base\nbase = 10", "g(2)"],
        "ok",
        "",
        "[10, 11]",
    ),
    "global": (["count = 0\ndef up():\n    global count\n    count += 1", "up(); up()", "count"], "ok", "", "2"),
    "del": (["a = 1", "del a", "'a' in globals()"], "ok", "", "False"),
    "globals()": (["globals()['made'] = 4", "made"], "ok", "", "4"),
    "type hints of globals": (
        ["import typing\nx: int = 4\ntyping.get_type_hints(__import__('__main__'))['x'].__name__"],
        "ok",
        "",
        "'int'",
    ),
    "future import": (
        ["from __future__ import annotations\ndef f(x: Missing): pass\nf.__annotations__['x']"],
        "ok",
        "",
        "'Missing'",
    ),
    "decorators and closures": (
        ["def twice(f): return lambda x: f(f(x))\n@twice\ndef inc(x): return x + 1", "inc(1)"],
        "ok",
        "",
        "3",
    ),
    "star import": (["from math import *", "floor(pi)"], "ok", "", "3"),
    "match": (["match {'k': 1}:\n    case {'k': v}: print(v)"], "ok", "1\n", None),
    "walrus": (["if (m := len(context)) > 1: print(m)"], "ok", "11\n", None),
    "empty cell": ([""], "ok", "", None),
    "only a comment": (["# nothing"], "ok", "", None),
    "docstring cell": (["'just text'"], "ok", "", "'just text'"),
    "main guard": (["if __name__ == '__main__': print('main')"], "ok", "main\n", None),
    "print to stderr is apart": (["import sys; print('e', file=sys.stderr); print('o')"], "ok", "o\n", None),
    "stdout.write and buffer": (
        ["import sys; _ = sys.stdout.write('w'); _ = sys.stdout.buffer.write('é'.encode())"],
        "ok",
        "wé",
        None,
    ),
    "redirect_stdout": (
        ["import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as s: print('x')\ns.getvalue()"],
        "ok",
        "",
        "'x\\n'",
    ),
    "lone surrogates": (["print('\\ud800')"], "ok", "\ud800\n", None),
    "full print of the last cell": (["print('abc')", "_stdout"], "ok", "", "'abc\\n'"),
    "error keeps assignments": (["a = 1\nb = 1 / 0\nc = 2", "(a, 'b' in globals())"], "ok", "", "(1, False)"),
    "exit is not the end": (["k = 1\nimport sys; sys.exit(2)", "k"], "ok", "", "1"),
    "sys.exit": (["import sys; sys.exit(2)"], "exit", "", None),
    "exit()": (["print('x'); exit()"], "exit", "x\n", None),
    "quit in a thread": (
        ["import threading\nt = threading.Thread(target=quit); t.start(); t.join()\nprint('on')"],
        "ok",
        "on\n",
        None,
    ),
    "os.environ is empty": (["import os; dict(os.environ)"], "ok", "", "{}"),
    "stdin is empty": (["import sys; sys.stdin.read()"], "ok", "", "''"),
    "breakpoint does not stop": (
        ["breakpoint(); print('after')"],
        "ok",
        "breakpoint() is not available here; use print().\nafter\n",
        None,
    ),
    "inspect.getsource": (
        ["def f():\n    return 1", "import inspect; inspect.getsource(f)"],
        "ok",
        "",
        "'def f():\\n    return 1'",
    ),
    "context can be reassigned": (["context = context.upper()", "context"], "ok", "", "'THE CONTEXT'"),
    "an awaiting cell keeps assignments": (
        ["import asyncio\nasync def f(): return 2\nv = await f()\nw = [await f() for _ in range(2)]", "v, w"],
        "ok",
        "",
        "(2, [2, 2])",
    ),
    "await as last expression": (["import asyncio\nawait asyncio.sleep(0, 'r')"], "ok", "", "'r'"),
    "async for and with at top level": (
        [
            "import contextlib\nasync def gen():\n    yield 1\n    yield 2\n@contextlib.asynccontextmanager\nasync def cm(): yield 5",
            "s = 0\nasync for i in gen(): s += i\nasync with cm() as c: s += c\ns",
        ],
        "ok",
        "",
        "8",
    ),
    "await in a comment or a string": (["# await x\nt = 'await y'\nt"], "ok", "", "'await y'"),
    "asyncio.run": (["import asyncio\nasync def f(): return 3\nasyncio.run(f())"], "ok", "", "3"),
    "asyncio.run twice": (
        ["import asyncio\nasync def f(): return 3\nasyncio.run(f()) + asyncio.run(f())"],
        "ok",
        "",
        "6",
    ),
    "asyncio.run in a cell that awaits": (
        ["import asyncio\nasync def f(): return 3\nawait f() + asyncio.run(f())"],
        "ok",
        "",
        "6",
    ),
    "from asyncio import run": (
        ["from asyncio import run\nasync def f(): return 3", "await f() + run(f())"],
        "ok",
        "",
        "6",
    ),
    "asyncio.run inside a coroutine": (
        ["import asyncio\nasync def f(): return 3\nasync def g(): return asyncio.run(f())\nawait g()"],
        "ok",
        "",
        "3",
    ),
    "run_until_complete": (
        ["import asyncio\nasync def f(): return 4\nasyncio.get_event_loop().run_until_complete(f())"],
        "ok",
        "",
        "4",
    ),
    "run_until_complete in a cell that awaits": (
        ["import asyncio\nasync def f(): return 4\nawait f() + asyncio.get_event_loop().run_until_complete(f())"],
        "ok",
        "",
        "8",
    ),
    "get_event_loop after asyncio.run": (
        ["import asyncio\nasync def f(): return 4\nasyncio.run(f())\nasyncio.get_event_loop().run_until_complete(f())"],
        "ok",
        "",
        "4",
    ),
    "a closed loop is replaced": (
        ["import asyncio\nasyncio.get_event_loop().close()", "await asyncio.sleep(0, 1)"],
        "ok",
        "",
        "1",
    ),
    "tasks survive between cells": (
        [
            "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 'done'\nt = asyncio.create_task(f())\nawait asyncio.sleep(0)",
            "await t",
        ],
        "ok",
        "",
        "'done'",
    ),
    "locks survive between cells": (
        ["import asyncio\nq = asyncio.Queue()\nawait q.put(1)", "await q.get()"],
        "ok",
        "",
        "1",
    ),
    "warnings go on": (["import warnings; warnings.warn('careful')\n1"], "ok", "", "1"),
    "deep recursion": (
        ["def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError: print('deep')"],
        "ok",
        "deep\n",
        None,
    ),
    "deep nesting is echoed": (["x = []\nfor _ in range(100_000): x = [x]\nprint('built')"], "ok", "built\n", None),
    "KeyboardInterrupt of its own": (
        ["try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt: print('mine')"],
        "ok",
        "mine\n",
        None,
    ),
    "too much memory is an error": (
        ["try: x = bytearray(10**11)\nexcept MemoryError: print('no')"],
        "ok",
        "no\n",
        None,
    ),
    "SHOW_VARS": (
        ["xs = [1, 2]\nname = 'n'\nimport re\n_hidden = 1", "SHOW_VARS()"],
        "ok",
        "",
        "context: str, len 11\nxs: list, len 2\nname: str, len 1",
    ),
}


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_cells(name: str) -> None:
    codes, end, stdout, echo = PLAIN[name]
    async with open_bench() as bench:
        result = await bench.all(*codes)
        assert (result.end, result.stdout, result.echo) == (end, stdout, echo), show(result)
        assert not result.state_lost
        assert (await bench.run("1 + 1")).echo == "2"


# name: cells, the error in one line, lines of the traceback
ERRORS: dict[str, tuple[list[str], str, list[str]]] = {
    "with cell and line": (["def f():\n    return {}['k']", "x = 1\nf()"], "KeyError: 'k'", ['File "<cell 1.2>", line 2, in <module>', "    f()", 'File "<cell 1.1>", line 2, in f', "    return {}['k']"]),
    "syntax": (["x = 1\nprint('a' 'b'"], "SyntaxError: '(' was never closed (<cell 1.1>, line 2)", ["print('a' 'b'", "^"]),
    "indentation": (["def f():\nreturn 1"], "IndentationError: expected an indented block after function definition on line 1 (<cell 1.1>, line 2)", ["return 1"]),
    "null byte": (["x = '\0'"], f"{NULL_BYTE}: source code string cannot contain null bytes", []),
    "chained": (["try:\n    1 / 0\nexcept Exception as e:\n    raise ValueError('second') from e"], "ValueError: second", ["ZeroDivisionError: division by zero", "The above exception was the direct cause"]),
    "in an awaiting cell": (["async def f(): return 1 / 0\nawait f()"], "ZeroDivisionError: division by zero", ['File "<cell 1.1>", line 2, in <module>', 'File "<cell 1.1>", line 1, in f']),
    "input": (["name = input('who? ')"], "RuntimeError: input() is not available. Work with `context` and the variables.", []),
    "message of several lines": (["raise ValueError('a\\nb')"], "ValueError: a b", ["ValueError: a\nb"]),
    "str() that raises": (["class E(Exception):\n    def __str__(self): raise RuntimeError\nraise E"], "E: <str() of the exception raised RuntimeError>", []),
    "repr() that raises": (["class R:\n    def __repr__(self): raise RuntimeError('no repr')\nR()"], "RuntimeError: no repr", ["in __repr__"]),
    "exception group": (["raise ExceptionGroup('both', [ValueError('v'), KeyError('k')])"], "ExceptionGroup: both (2 sub-exceptions)", ["ValueError: v", "KeyError: 'k'"]),
    "assert": (["assert 1 == 2, 'differs'"], "AssertionError: differs", ["assert 1 == 2"]),
    "own KeyboardInterrupt": (["raise KeyboardInterrupt('mine')"], "KeyboardInterrupt: mine", []),
    "recursion": (["def f(): f()\nf()"], "RecursionError: maximum recursion depth exceeded", ["Previous line repeated"]),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
async def test_errors_are_shown_without_the_scaffold(name: str) -> None:
    codes, error, lines = ERRORS[name]
    async with open_bench() as bench:
        result = await bench.all(*codes)
        assert (result.end, result.error) == ("error", error)
        assert result.traceback is not None
        for line in lines:
            assert line in result.traceback
        assert "worker" not in result.traceback
        assert "execution.py" not in result.traceback
        assert (await bench.run("1 + 1")).echo == "2"


NOTES: dict[str, tuple[list[str], list[str]]] = {
    "restored function": (["llm_query = 'mine'\ndel FINAL", "llm_query('p')"], ["Restored llm_query, FINAL: "]),
    "restored context": (["del context", "assert context == 'the context'"], ["Restored `context`"]),
    "coroutine thrown away": (["llm_query_async('p')\nNone"], ["A coroutine of llm_query_async was never awaited"]),
    "own coroutine thrown away": (["async def go(): pass\ngo()\nNone"], ["A coroutine of go was never awaited", "`await go(...)`"]),
    "coroutine in a variable": (["r = llm_query_async('p')"], ["`r` holds a coroutine that was never awaited: write `await r`"]),
    "coroutines in a list": (["rs = [llm_query_async('p') for _ in range(2)]"], ["`rs` holds coroutines", "asyncio.gather(*rs)"]),
    "coroutine as last expression": (["llm_query_batch_async(['p'])"], ["The last expression is a coroutine that was never awaited"]),
    "calls left open": (["import asyncio\nt = asyncio.create_task(llm_query_async('hang'))\nawait asyncio.sleep(0)"], ["1 sub-calls were still open"]),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTES)
async def test_notes_reach_the_model(name: str) -> None:
    codes, texts = NOTES[name]
    async with open_bench() as bench:
        result = await bench.all(*codes)
        assert result.end == "ok", show(result)
        for text in texts:
            assert text in "\n".join(result.notes)
        assert "never awaited" not in result.stderr


async def test_clean_cell_has_no_notes() -> None:
    async with open_bench() as bench:
        result = await bench.all(
            "import asyncio\nc = asyncio.sleep(0)\nawait c\nawait llm_query_async('p')", "answer = 'text'", "answer"
        )
        assert (result.notes, result.echo) == ((), "'text'")


async def test_variables_are_those_that_code_defined() -> None:
    async with open_bench() as bench:
        result = await bench.run(
            "import re\nxs = [1, 2]\n_private = 1\nclass A: pass\nanswer_count = 3.5\ncontext = 'other'"
        )
        assert result.variables == (
            Variable("context", "str", 5),
            Variable("xs", "list", 2),
            Variable("A", "type"),
            Variable("answer_count", "float"),
        )


async def test_listing_does_not_call_user_len() -> None:
    async with open_bench(limits=SHORT) as bench:
        result = await bench.run("class L:\n    def __len__(self):\n        while True: pass\nl = L()")
        assert result.end == "ok"
        assert Variable("l", "L") in result.variables


async def test_read_and_variables_keep_types() -> None:
    async with open_bench() as bench:
        await bench.run(
            "t = (1, {2}, b'x')\no = object\nlong = 'x' * 300_000\nclass W:\n    def __str__(self): return 'w!'\nw = W()"
        )
        assert await bench.repl.read("t") == (1, {2}, b"x")
        assert await bench.repl.read("w") == "w!"
        with pytest.raises(KeyError):
            await bench.repl.read("missing")
        variables = await bench.repl.variables()
        assert variables["t"] == (1, {2}, b"x")
        assert isinstance(variables["long"], str)
        assert len(variables["long"]) < 10_000
        assert (await bench.run("t[0]")).echo == "1"


async def test_long_output_keeps_head_and_tail() -> None:
    async with open_bench(limits=ReplLimits(output_chars=1000)) as bench:
        result = await bench.run("for i in range(10_000): print(i)")
        assert result.stdout.startswith("0\n1\n2\n")
        assert result.stdout.endswith("9998\n9999\n")
        assert "[47,890 characters left out]" in result.stdout
        assert len(result.stdout) < 1100
        assert (await bench.run("len(_stdout)")).echo == "48890"


async def test_ten_megabytes_of_output_are_cut() -> None:
    async with open_bench() as bench:
        result = await bench.run("for _ in range(1000): print('x' * 9_999)\nprint('end', end='')")
        assert result.end == "ok"
        assert 2_000_000 <= len(result.stdout) < 2_000_100
        assert "[8,000,003 characters left out]" in result.stdout
        assert result.stdout.endswith("x\nend")
        assert (await bench.run("len(_stdout)")).echo == "10000003"


async def test_long_echo_is_cut_in_the_middle() -> None:
    async with open_bench("c" * 5_000_000) as bench:
        result = await bench.run("context")
        assert result.echo is not None
        assert len(result.echo) < 101_000
        assert "4,900,000 left out" in result.echo


async def test_threads_print_whole_lines() -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
def say(i):
    for _ in range(50): print(f"{i}" * 20)
with ThreadPoolExecutor(8) as pool: list(pool.map(say, range(8)))
"""
    async with open_bench() as bench:
        result = await bench.run(code)
        assert len(result.stdout) == 8 * 50 * 21


async def test_errors_of_threads_are_shown() -> None:
    async with open_bench() as bench:
        result = await bench.run("import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start(); t.join()")
        assert "ZeroDivisionError" in result.stderr
        assert '"<cell 1.1>", line 2' in result.stderr


async def test_memory_limit_is_error_of_the_cell() -> None:
    async with open_bench(limits=ReplLimits(memory_mb=300, cell_seconds=20)) as bench:
        result = await bench.run("kept = 7\nxs = []\nwhile True: xs.append('x' * 1_000_000)")
        assert result.error is not None
        assert (result.end, result.error.split(":")[0], result.state_lost) == ("error", "MemoryError", False)
        assert (await bench.run("del xs\nkept")).echo == "7"
        assert (await bench.run("'x' * 1_000_000 == ''")).echo == "False"


async def test_setup_code_runs_before_the_first_cell() -> None:
    async with open_bench(setup_code="def double(x): return 2 * x\nbase = len(context)") as bench:
        assert (await bench.run("double(base)")).echo == "22"
