"""Worker processes: stopping, death, replacement, and cleanup."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repl_kit import SHORT, open_bench, show

from rlm.core.cells import Cell
from rlm.core.errors import (
    ConfigurationError,
    ContextError,
    ProtocolViolationError,
    SandboxDiedError,
    SandboxUnavailableError,
)
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import ModelQuery, Subcall, SubcallAnswer, SubcallOutcome
from rlm.sandbox.cell_runner import MAX_WAIT_FACTOR, Stopwatch
from rlm.sandbox.launchers.unconfined import WORKER, UnconfinedLauncher
from rlm.sandbox.sandbox import WorkerSandbox

INTERRUPTED = {
    "busy loop": "while True: pass",
    "sleep": "import time; time.sleep(60)",
    "await": "import asyncio; await asyncio.sleep(60)",
    "except Exception": "while True:\n    try:\n        while True: pass\n    except Exception: pass",
    "thread join": "import threading, time\nt = threading.Thread(target=time.sleep, args=(3,), daemon=True)\nt.start(); t.join()",
    "in asyncio.run": "import asyncio; asyncio.run(asyncio.sleep(60))",
    "in asyncio.run beside an await": "import asyncio\nawait asyncio.sleep(0)\nasyncio.run(asyncio.sleep(60))",
    "printing": "while True: print('x')",
    "repr of the echo": "class R:\n    def __repr__(self):\n        while True: pass\nR()",
    "str of the answer": "class R:\n    def __str__(self):\n        while True: pass\nFINAL(R())",
    "asking": "while True: llm_query('a')",
    "asking, swallowing errors": "while True:\n    try: llm_query('a')\n    except Exception: pass",
    "awaiting calls": "import asyncio\nwhile True: await asyncio.gather(*[llm_query_async('a') for _ in range(9)])",
}


@pytest.mark.parametrize("name", INTERRUPTED)
async def test_timed_out_cell_keeps_state(name: str) -> None:
    async with open_bench(limits=ReplLimits(cell_seconds=0.3)) as bench:
        await bench.run("kept = 1")
        result = await bench.run(INTERRUPTED[name])
        assert (result.end, result.state_lost) == ("timeout", False), show(result)
        assert result.error == "TimeoutError: the cell ran longer than 0.3 s"
        assert "KeyboardInterrupt" in (result.traceback or "")
        assert 0.3 <= result.elapsed_s - result.waited_s < 2
        assert (await bench.run("kept, llm_query('b')")).echo == "(1, 'echo:b')"
        assert (await bench.run("import asyncio\nawait llm_query_async('c')")).echo == "'echo:c'"


KILLED = {
    "C code": "sum(range(10**12))",
    "swallowed": "while True:\n    try:\n        while True:\n            x = 1\n    except BaseException: pass",
    "ignored": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
}


@pytest.mark.parametrize("name", KILLED)
async def test_uninterruptible_cell_is_killed(name: str) -> None:
    async with open_bench(limits=SHORT) as bench:
        await bench.run("kept = 1")
        result = await bench.run(f"print('before')\n{KILLED[name]}")
        assert (result.end, result.state_lost, result.stdout) == ("timeout", True, "before\n")
        assert "so its process was killed" in result.notes[0]
        assert (await bench.run("context, 'kept' in globals()")).echo == "('the context', False)"


async def test_caught_interrupt_is_still_timeout() -> None:
    async with open_bench(limits=ReplLimits(cell_seconds=0.3)) as bench:
        result = await bench.run("try:\n    while True:\n        x = 1\nexcept KeyboardInterrupt: print('cleaned up')")
        assert (result.end, result.stdout) == ("timeout", "cleaned up\n")


DEATHS = {
    "os._exit": ("import os; os._exit(3)", "exited with status 3"),
    "abort": ("import os; os.abort()", "killed by signal 6 (SIGABRT)"),
    "killing itself": ("import os; os.kill(os.getpid(), 9)", "killed by signal 9 (SIGKILL)"),
    "crash": ("import ctypes; ctypes.string_at(0)", "killed by signal 11 (SIGSEGV)"),
    "exec": ("import os; os.execv('/bin/true', ['true'])", "exited with status 0"),
}


@pytest.mark.parametrize("name", DEATHS)
async def test_ended_process_is_replaced(name: str) -> None:
    code, how = DEATHS[name]
    async with open_bench(setup_code="def helper(): return 'ready'") as bench:
        await bench.run("kept = 1")
        result = await bench.run(f"print('a')\nprint('b')\nimport sys; print('e', file=sys.stderr)\n{code}")
        assert (result.end, result.state_lost, result.error) == ("died", True, f"the process {how}")
        assert (result.stdout, result.stderr) == ("a\nb\n", "e\n")
        assert how in result.notes[0]
        assert (await bench.run("context, helper(), 'kept' in globals()")).echo == "('the context', 'ready', False)"


async def test_output_without_a_newline_survives_os_exit() -> None:
    async with open_bench() as bench:
        result = await bench.run("print('a' * 100_000)\nprint('end', end='')\nimport os; os._exit(0)")
        assert result.stdout == "a" * 100_000 + "\nend"


async def test_process_death_cancels_open_calls() -> None:
    async with open_bench() as bench:
        result = await bench.run(
            "import threading, os, time\n"
            "for _ in range(5): threading.Thread(target=llm_query, args=('hang',), daemon=True).start()\n"
            "time.sleep(0.2); os._exit(1)"
        )
        assert result.end == "died"
        assert (len(bench.calls), bench.open, bench.cancelled) == (5, 0, 5)
        assert (await bench.run("llm_query('a')")).echo == "'echo:a'"


async def test_worker_killed_from_outside_is_replaced() -> None:
    async with open_bench() as bench:
        running = asyncio.create_task(bench.run("import os\nprint(os.getpid())\nllm_query('hang')"))
        while not bench.calls:
            await asyncio.sleep(0.005)
        (child,) = _children(os.getpid())
        os.kill(child, signal.SIGKILL)
        result = await running
        assert (result.end, result.stdout) == ("died", f"{child}\n")


async def test_worker_dead_between_cells_is_replaced() -> None:
    async with open_bench() as bench:
        await bench.run("x = 1")
        (child,) = _children(os.getpid())
        os.kill(child, signal.SIGKILL)
        await asyncio.sleep(0.05)
        assert (await bench.run("1")).end == "died"
        assert (await bench.run("2")).echo == "2"


async def test_death_is_noticed_despite_inherited_socket() -> None:
    async with open_bench() as bench:
        result = await bench.run("import os, time\nif os.fork() == 0:\n    time.sleep(3)\n    os._exit(0)\nos._exit(5)")
        assert (result.end, result.error) == ("died", "the process exited with status 5")
        assert result.elapsed_s < 2.5


async def test_forked_copy_cannot_send() -> None:
    async with open_bench() as bench:
        result = await bench.run(
            "import os\npid = os.fork()\nprint('from', 'copy' if pid == 0 else 'original')\nif pid: os.waitpid(pid, 0)"
        )
        assert (result.end, result.stdout) == ("ok", "from original\n")
        assert (await bench.run("llm_query('a')")).echo == "'echo:a'"


async def test_close_removes_process_and_folder_mid_cell() -> None:
    async with open_bench() as bench:
        folder = Path((await bench.run("import os\nprint(os.getcwd(), end='')\nopen('f', 'w').write('x')")).stdout)
        assert folder.is_dir()
        running = asyncio.create_task(bench.run("while True: pass"))
        await asyncio.sleep(0.05)
        await bench.repl.aclose()
        await bench.repl.aclose()
        with pytest.raises(SandboxDiedError, match="closed"):
            await running
        assert not folder.exists()
        assert _children(os.getpid()) == []


async def test_closed_sandbox_opens_no_repl() -> None:
    sandbox = WorkerSandbox(UnconfinedLauncher())
    repl = await sandbox.open(ReplSpec("c"))
    await sandbox.aclose()
    await sandbox.aclose()
    with pytest.raises(SandboxDiedError):
        await repl.read("context")
    with pytest.raises(SandboxUnavailableError):
        await sandbox.open(ReplSpec("c"))


CONTEXTS: list[object] = [
    "",
    "a\r\n\0\ud800😀é",
    ["doc one", "doc two"],
    [{"role": "user", "content": "hi"}],
    {"k": [1, 2.5, None, True], "$": "dollar", "nested": {"t": (1, {2})}},
    b"\x00\xff",
    {1: "one", (2, 3): "pair"},
    [10**40, -(2**63), 2**63 - 1],
]


@pytest.mark.parametrize("context", CONTEXTS, ids=repr)
async def test_contexts_arrive_unchanged(context: object) -> None:
    async with open_bench(context) as bench:
        value = await bench.repl.read("context")
        assert value == context
        assert type(value) is type(context)


async def test_large_context_arrives() -> None:
    async with open_bench("0123456789" * 3_000_000) as bench:
        result = await bench.run("len(context), context[-10:], context.count('0')")
        assert result.echo == "(30000000, '0123456789', 3000000)"


async def test_context_that_is_not_data_is_rejected() -> None:
    with pytest.raises(ContextError, match="a object is not plain data"):
        async with open_bench([object()]):
            pass
    assert _children(os.getpid()) == []


async def test_failing_setup_code_is_configuration_error() -> None:
    for code, text in (("1 / 0", "ZeroDivisionError"), ("import os; os._exit(1)", "exited with status 1")):
        with pytest.raises(ConfigurationError, match=text):
            async with open_bench(setup_code=code):
                pass
    assert _children(os.getpid()) == []


async def test_reading_a_variable_times_out() -> None:
    async with open_bench() as bench:
        await bench.run("class W:\n    def __str__(self):\n        import os; os._exit(1)\nw = W()")
        with pytest.raises(SandboxDiedError):
            await bench.repl.read("w")


FORGE = """
import os, socket, stat, struct
header = %r
for fd in range(3, 4096):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            os.write(fd, struct.pack(">II", len(header), 0) + header)
    except OSError:
        pass
while True: x = 1
"""


@pytest.mark.parametrize(
    "header", [b'{"t":"ready"}', b'{"t":"value","kind":null}', b"[]", b'{"t":"call","first":1,"prompts":[9]}']
)
async def test_hostile_worker_ends_alone(header: bytes) -> None:
    async with open_bench() as one, open_bench() as two:
        with pytest.raises(ProtocolViolationError):
            await one.run(FORGE % header)
        with pytest.raises(SandboxDiedError):
            await one.run("1")
        assert (await two.run("llm_query('a')")).echo == "'echo:a'"


HOST = """
import asyncio, os, sys
from rlm.core.cells import Cell
from rlm.core.repl_spec import ReplSpec
from rlm.core.subcalls import ModelQuery, SubcallAnswer
from rlm.sandbox.launchers.unconfined import UnconfinedLauncher
from rlm.sandbox.sandbox import WorkerSandbox

async def main():
    sandbox = WorkerSandbox(UnconfinedLauncher())
    repls = [await sandbox.open(ReplSpec("c")) for _ in range(3)]
    async def serve(call):
        print(call.prompt, flush=True)
        await asyncio.sleep(600 if call.prompt.endswith("wait") else 0)
        return SubcallAnswer("go on")
    codes = ["while True: pass", "pass", "llm_query('wait')"]
    pid = "import os\\nllm_query(f'pid {os.getpid()}')\\n"
    await asyncio.gather(*(repl.execute(Cell(1, 1, pid + code), serve) for repl, code in zip(repls, codes)))

asyncio.run(main())
"""


def test_killed_host_leaves_no_worker() -> None:
    """Busy, idle and waiting workers all end."""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True, cwd=root) as host:
        assert host.stdout is not None
        lines = [host.stdout.readline() for _ in range(4)]
        workers = [int(line.split()[1]) for line in lines if line.startswith("pid ")]
        assert len(workers) == 3
        host.kill()
    deadline = time.monotonic() + 10
    while (left := [pid for pid in workers if _is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


def test_waits_extend_cell_time_only_so_far() -> None:
    watch = Stopwatch(started=time.monotonic() - 10_000, waited=10_000)
    assert watch.remaining(200) > 150
    assert watch.remaining(10) < -(10_000 - 10 - 10 * MAX_WAIT_FACTOR) + 1


async def test_many_repls_run_at_once() -> None:
    sandbox = WorkerSandbox(UnconfinedLauncher())

    async def serve(subcall: Subcall) -> SubcallOutcome:
        assert isinstance(subcall, ModelQuery)
        return SubcallAnswer(subcall.prompt)

    async def one(number: int) -> str | None:
        repl = await sandbox.open(ReplSpec(f"context {number}"))
        return (await repl.execute(Cell(1, 1, "llm_query(context)"), serve)).echo

    try:
        assert await asyncio.gather(*(one(i) for i in range(12))) == [f"'context {i}'" for i in range(12)]
    finally:
        await sandbox.aclose()
    assert _children(os.getpid()) == []


def _children(pid: int) -> list[int]:
    """Living child processes that run a worker, from /proc because ``ps`` cuts command lines."""
    workers = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")  # empty for a zombie
            if {os.fsencode(WORKER), b"--parent"} <= set(arguments):  # a zygote has no parent to watch
                workers.append(int(child))
    return workers


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
