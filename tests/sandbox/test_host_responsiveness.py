"""The event loop of the host stays responsive whatever a worker sends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from rlm.core.cells import Cell, CellResult
from rlm.core.errors import SandboxError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.sandbox.launchers.unconfined import UnconfinedLauncher
from rlm.sandbox.sandbox import WorkerSandbox
from rlm.testing import LoopWatchdog

MOST_S = 0.05
QUIET_S = 0.006  # processor time of ``_work`` on a quiet machine
SECONDS = 1.0

SOCKET = """
import json, os, socket, stat, struct, time

def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False

fd = next(fd for fd in range(3, 256) if is_socket(fd))

def frame(header, body=b''):
    head = json.dumps(header).encode()
    return struct.pack('>II', len(head), len(body)) + head + body

def send(header, body=b''):
    data = b''
    for at in range(0, len(body), 1 << 22):
        data += frame({'t': 'part'}, body[at:at + (1 << 22)])
    os.write(fd, b'')
    socket.socket(fileno=os.dup(fd)).sendall(data + frame(header))
    time.sleep(30)

def answer(kind, body):
    report = json.dumps({'echo': None, 'error': None, 'traceback': None, 'notes': [], 'variables': [],
                         'omitted': [0, 0], 'tails': ['', '']}).encode()
    send({'t': 'done', 'end': 'ok', 'info': len(report), 'answer': kind}, report + body)

def piece(operation, payload=b''):
    return struct.pack('>cI', operation, len(payload)) + payload

def colliding(count):
    return [k * (2**61 - 1) for k in range(count)]
"""

HONEST = {
    "a set whose iterator yields colliding numbers": """
        class S(set):
            def __iter__(self):
                return iter([k * (2**61 - 1) for k in range(30_000)])
        FINAL(S([1]))""",
    "a set of colliding numbers": "FINAL({k * (2**61 - 1) for k in range(3000)})",
    "a dict with colliding keys": "FINAL({k * (2**61 - 1): k for k in range(3000)})",
    "colliding keys in tuples": "FINAL({(k * (2**61 - 1), 1): k for k in range(3000)})",
    "integers of 4,299 digits": "FINAL([10**4298] * 5000)",
    "a million small lists": "FINAL([[] for _ in range(1_000_000)])",
    "small lists at the limit": "FINAL([[] for _ in range(120_000)])",
    "numbers at the limit": "FINAL(list(range(490_000)))",
    "a large set": "FINAL(set(range(300_000)))",
    "a large dict": "FINAL({k: str(k) for k in range(150_000)})",
    "deep nesting": "x = [1]\nfor _ in range(90): x = [x] * 1 + [list(range(1000))]\nFINAL(x)",
    "long lone surrogates": "FINAL('\\ud800' * 1_000_000)",
    "lone surrogates in keys": "FINAL({chr(0xd800 + k % 2000) * 20 + str(k): k for k in range(50_000)})",
    "huge Decimals": "import decimal\nFINAL([decimal.Decimal('1' * 400_000)] * 20 + [decimal.Decimal('1e999999')])",
    "dates": "import datetime as d\nFINAL([d.datetime(2000, 1, 1) + d.timedelta(k) for k in range(50_000)])",
    "a huge integer": "FINAL([1 << 3_000_000] * 3)",
    "bytes": "FINAL([bytes(1 << 20)] * 8)",
    "a large context for a call": "llm_query('x', context=[{'n': k} for k in range(100_000)])",
    "a large report": "for k in range(1000): globals()[f'v{k}_' + 'x' * 9000] = k\nprint('\\0' * 2_000_000)",
}

HOSTILE = {
    "colliding numbers in one step": "answer('j', json.dumps({'$': 'set', 'v': colliding(30_000)}).encode())",
    "colliding numbers in a small value": "answer('j', json.dumps({'$': 'set', 'v': colliding(2500)}).encode())",
    "colliding numbers in pieces": """
        items = b''.join(piece(b'+', json.dumps(colliding(900)).encode()) for _ in range(60))
        answer('p', piece(b'(', b'set') + items + piece(b')'))""",
    "colliding keys in pieces": """
        items = [[{'$': 'tuple', 'v': [k * (2**61 - 1)]}, k] for k in range(30_000)]
        body = b''.join(piece(b'+', json.dumps(items[at:at + 300]).encode()) for at in range(0, 30_000, 300))
        answer('p', piece(b'(', b'dict') + body + piece(b')'))""",
    "millions of small lists": "answer('j', b'[' + b'[],' * 3_000_000 + b'[]]')",
    "millions of small lists in pieces": """
        lists = piece(b'+', b'[' + b'[],' * 9000 + b'[]]')
        answer('p', piece(b'(', b'list') + lists * 500 + piece(b')'))""",
    "a million empty pieces": "answer('p', (piece(b'(', b'list') + piece(b')')) * 1_000_000)",
    "integers of many digits": "answer('j', b'[' + b','.join([b'9' * 4299] * 5000) + b']')",
    "a report of millions of lists": """
        body = b'[' + b'[],' * 3_000_000 + b'[]]'
        send({'t': 'done', 'end': 'ok', 'info': len(body), 'answer': None}, body)""",
    "options of millions of lists": """
        body = b'{"schema":{"a":[' + b'[],' * 3_000_000 + b'[]]}}'
        send({'t': 'call', 'kind': 'model', 'first': 1, 'prompts': [0], 'options': len(body)}, body)""",
    "a prompt of lone surrogates": """
        body = b'\\xed\\xa0\\x80' * 5_000_000
        send({'t': 'call', 'kind': 'model', 'first': 1, 'prompts': [len(body)]}, body)""",
    "text that is not UTF-8 at its end": """
        body = b'\\xe4' * 9_000_000
        send({'t': 'call', 'kind': 'model', 'first': 1, 'prompts': [len(body)]}, body)""",
    "empty frames without end": "data = frame({'t': 'part'}) * 1000\nwhile True: os.write(fd, data)",
    "empty output without end": "data = frame({'t': 'out', 'stream': 0}) * 1000\nwhile True: os.write(fd, data)",
    "withdrawals without end": "data = frame({'t': 'cancel', 'calls': []}) * 1000\nwhile True: os.write(fd, data)",
}


def _work() -> None:
    """Typical work of the decoder, to measure the machine."""
    json.loads(json.dumps([{"x": [n, str(n)]} for n in range(4000)]))


def slowness() -> float:
    """The present time for a piece of work, as a multiple of that on a quiet machine; at least 1."""
    times = []
    for _ in range(5):
        start = time.process_time()
        _work()
        times.append(time.process_time() - start)
    return max(1.0, max(times) / QUIET_S)


@pytest.fixture
def no_old_garbage() -> Iterator[None]:
    """Hides the objects of the test runner from the garbage collector, which would stall the loop for them."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


async def answer(_subcall: Subcall) -> SubcallOutcome:
    await asyncio.sleep(0.001)
    return SubcallAnswer("reply")


@contextlib.asynccontextmanager
async def watched(seconds: float = SECONDS) -> AsyncIterator[tuple[WorkerSandbox, LoopWatchdog]]:
    """A sandbox with a sibling whose cell makes calls all the time."""
    sandbox = WorkerSandbox(UnconfinedLauncher())
    try:
        sibling = await sandbox.open(ReplSpec("sibling", limits=ReplLimits(cell_seconds=seconds * 5)))
        code = "n = 0\nwhile llm_query('x') == 'reply' and not llm_query('y').startswith('stop'): n += 1\nn"
        stopped = asyncio.Event()

        async def serve(subcall: Subcall) -> SubcallOutcome:
            await asyncio.sleep(0.001)
            return SubcallAnswer("stop" if stopped.is_set() and getattr(subcall, "prompt", "") == "y" else "reply")

        running = asyncio.create_task(sibling.execute(Cell(1, 1, code), serve))
        await asyncio.sleep(0.05)
        with LoopWatchdog() as watchdog:
            yield sandbox, watchdog
        stopped.set()
        result = await running
        assert result.end == "ok", result.shown
        assert int(result.echo or 0) > 0
    finally:
        await sandbox.aclose()


async def execute(sandbox: WorkerSandbox, code: str, seconds: float = SECONDS) -> CellResult | SandboxError:
    repl = await sandbox.open(ReplSpec("hostile", limits=ReplLimits(cell_seconds=seconds)))
    try:
        return await repl.execute(Cell(1, 1, code), answer)
    except SandboxError as error:
        return error
    finally:
        await repl.aclose()


def dedent(code: str) -> str:
    lines = code.strip("\n").split("\n")
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:] for line in lines)


@pytest.mark.usefixtures("no_old_garbage")
@pytest.mark.parametrize("name", HONEST)
async def test_values_of_cells_never_stall_the_loop(name: str) -> None:
    async with watched(20) as (sandbox, watchdog):
        result = await execute(sandbox, dedent(HONEST[name]), 20)
    assert isinstance(result, CellResult), result
    assert result.end in {"ok", "error"}, result.shown
    assert watchdog.longest_cpu_s < MOST_S * slowness()


@pytest.mark.usefixtures("no_old_garbage")
@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_frames_never_stall_the_loop(name: str) -> None:
    async with watched() as (sandbox, watchdog):
        await execute(sandbox, SOCKET + dedent(HOSTILE[name]))
    assert watchdog.longest_cpu_s < MOST_S * slowness()


async def test_refused_subcalls_take_little_loop_time() -> None:
    """Refusals cost no budget. Without pauses between them, one cell would take most of the loop."""

    async def refuse(_: Subcall) -> SubcallOutcome:
        return SubcallFailure("ModelNotFoundError", "no such model")

    sandbox = WorkerSandbox(UnconfinedLauncher())
    try:
        repl = await sandbox.open(ReplSpec("", limits=ReplLimits(cell_seconds=2.0)))
        began_s, used_s = time.monotonic(), time.thread_time()
        result = await repl.execute(Cell(1, 1, "while True: llm_query_batch(['x'] * 500)"), refuse)
        assert result.end == "timeout"
        assert (time.thread_time() - used_s) / (time.monotonic() - began_s) < 0.12
    finally:
        await sandbox.aclose()
