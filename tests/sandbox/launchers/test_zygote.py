"""Zygotes and their REPLs: fast start, equality, separation, end with the host, replacement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from zygote_kit import AVAILABLE, SMALL, children_of, is_alive, linux_only, run_cell, run_once, sandbox_at, vanish

from rlm.core.errors import ConfigurationError, SandboxDiedError, SandboxError, SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.launchers.zygote_worker import ZygoteWorker
from rlm.sandbox.sandbox import WorkerSandbox

pytestmark = linux_only
EVERY_LEVEL = pytest.mark.parametrize("level", AVAILABLE)
BEST = AVAILABLE[0] if AVAILABLE else "strict"


async def closed(launcher: ZygoteLauncher) -> None:
    pid = launcher.zygote_pid
    await launcher.aclose()
    assert pid is None or not is_alive(pid)


@EVERY_LEVEL
async def test_worker_can_be_interrupted_and_killed(level: str) -> None:
    launcher = ZygoteLauncher(level)
    worker = await launcher.launch(SMALL)
    assert is_alive(worker.pid)
    assert not worker.sock.getblocking()
    worker.kill()
    assert await worker.wait() == "killed by signal 9 (SIGKILL)"
    assert await worker.wait() == "killed by signal 9 (SIGKILL)"  # safe to call twice
    worker.kill()  # without any effect
    worker.interrupt()
    worker.sock.close()
    await closed(launcher)


@EVERY_LEVEL
async def test_interrupted_cell_keeps_variables(level: str) -> None:
    async with sandbox_at(level) as sandbox:
        repl = await sandbox.open(ReplSpec("", limits=ReplLimits(cell_seconds=0.3)))
        stopped = await run_cell(repl, "kept = 5\nwhile True: pass")
        assert (stopped.end, stopped.state_lost) == ("timeout", False)
        assert (await run_cell(repl, "kept")).echo == "5"


async def test_prepared_zygote_serves_first_launch_or_ends_unused() -> None:
    sandbox = WorkerSandbox(launcher := ZygoteLauncher(BEST))
    launcher.prepare()
    prepared = launcher.zygote_pid
    assert (await run_once(sandbox, "print(1)")).stdout == "1\n"
    assert launcher.zygote_pid == prepared
    await sandbox.aclose()
    unused = ZygoteLauncher(BEST)
    unused.prepare()
    await closed(unused)


async def test_dead_prepared_zygote_is_replaced() -> None:
    sandbox = WorkerSandbox(launcher := ZygoteLauncher(BEST))
    launcher.prepare()
    prepared = launcher.zygote_pid
    assert prepared is not None
    os.kill(prepared, signal.SIGKILL)
    assert await vanish(prepared) == []
    assert (await run_once(sandbox, "print(1)")).stdout == "1\n"
    assert launcher.zygote_pid != prepared
    await sandbox.aclose()


async def test_zygote_killed_at_start_is_replaced() -> None:
    sandbox = WorkerSandbox(launcher := ZygoteLauncher(BEST))
    launcher.prepare()
    prepared = launcher.zygote_pid
    assert prepared is not None
    running = asyncio.create_task(run_once(sandbox, "print(1)"))
    while launcher.zygote_pid is not None:  # reap it
        await asyncio.sleep(0)
    os.kill(prepared, signal.SIGKILL)
    assert (await running).stdout == "1\n"
    assert launcher.zygote_pid != prepared
    await sandbox.aclose()


async def test_silent_zygote_error_includes_its_stderr() -> None:
    launcher = ZygoteLauncher(BEST, entry="worker.main:no_such_function")
    with pytest.raises(SandboxUnavailableError, match=r"(?s)its process ended: .*no_such_function"):
        await launcher.launch(SMALL)
    await closed(launcher)


async def test_first_launch_reports_prepare_failure() -> None:
    launcher = ZygoteLauncher(BEST, packages=("no_such_package",))
    launcher.prepare()
    with pytest.raises(ConfigurationError, match="no_such_package"):
        await launcher.launch(SMALL)
    await closed(launcher)


NEVER_RUN = """
import sys, rlm
from rlm.runtime.resources import SHARED
rlm.RLM("openai:m", api_key="x")
print(SHARED.sandbox(*("auto", ()))._launcher.zygote_pid, flush=True)
if sys.argv[1] == "killed":
    import os
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["ends", "killed"])
async def test_unused_engine_leaves_no_zygote(how: str) -> None:
    command = [sys.executable, "-W", "error", "-c", NEVER_RUN, how]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert ended.returncode == (0 if how == "ends" else -signal.SIGKILL), ended.stderr
    assert ended.stderr == ""
    assert await vanish(int(ended.stdout)) == []


async def test_three_hundred_repls_live_at_once() -> None:
    async with sandbox_at(BEST) as sandbox:
        repls = await asyncio.gather(*(sandbox.open(ReplSpec(f"context {n}", limits=SMALL)) for n in range(300)))
        results = await asyncio.gather(*(run_cell(repl, "print(llm_query(context))") for repl in repls))
        assert [result.stdout for result in results] == [f"echo:context {n}\n" for n in range(300)]


async def test_launch_without_descriptors_is_typed_error() -> None:
    launcher = ZygoteLauncher(BEST)
    workers = [await launcher.launch(SMALL)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(path.name) for path in Path("/proc/self/fd").iterdir()) + 1
    refusals: list[str] = []
    held: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
        with contextlib.suppress(OSError):
            while True:
                held.append(os.dup(0))
        for _ in range(6):  # with no descriptor left, then with one more each time
            try:
                workers.append(await launcher.launch(SMALL))
            except SandboxUnavailableError as error:
                refusals.append(str(error))
            os.close(held.pop())
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refusals
    assert all("ulimit -n" in refusal for refusal in refusals)
    workers.append(await launcher.launch(SMALL))
    assert all(is_alive(worker.pid) for worker in workers)
    for worker in workers:
        worker.sock.close()
    await closed(launcher)


async def test_worker_ends_with_its_socket() -> None:
    launcher = ZygoteLauncher(BEST)
    worker = await launcher.launch(SMALL)
    worker.sock.close()
    assert await asyncio.wait_for(worker.wait(), 5) == "exited with status 0"
    await closed(launcher)


@EVERY_LEVEL
async def test_concurrent_repls_have_separate_state(level: str) -> None:
    async with sandbox_at(level) as sandbox:
        repls = await asyncio.gather(*(sandbox.open(ReplSpec(f"context {n}", limits=SMALL)) for n in range(40)))
        await asyncio.gather(*(run_cell(repl, f"mine = {n}") for n, repl in enumerate(repls)))
        results = await asyncio.gather(*(run_cell(repl, "mine, context") for repl in repls))
        assert [result.echo for result in results] == [f"({n}, 'context {n}')" for n in range(40)]


@EVERY_LEVEL
async def test_siblings_differ_in_randomness_not_set_order(level: str) -> None:
    async with sandbox_at(level) as sandbox:
        code = (
            "import random, uuid, secrets, os\nprint(random.random(), uuid.uuid4(), secrets.token_hex(), os.urandom(4))"
        )
        first, second = [(await run_once(sandbox, code)).stdout.split() for _ in range(2)]
        assert not set(first) & set(second)
        ordered = "print(list({'b', 'a', 'zebra', 'context', 'x' * 9}))"
        one_order = (await run_once(sandbox, ordered)).stdout
    async with sandbox_at(level) as another:
        assert (await run_once(another, ordered)).stdout == one_order


@EVERY_LEVEL
async def test_memory_limit_keeps_state(level: str) -> None:
    async with sandbox_at(level) as sandbox:
        repl = await sandbox.open(ReplSpec("", limits=SMALL))
        await run_cell(repl, "kept = 5")
        too_much = await run_cell(repl, "held = bytearray(400 * 2**20)")
        assert (too_much.end, too_much.error) == ("error", "MemoryError")
        assert (await run_cell(repl, "held = bytearray(150 * 2**20); kept")).echo == "5"


@EVERY_LEVEL
async def test_thread_limit_is_separate_per_repl(level: str) -> None:
    bomb = """
        import threading, time
        stop = threading.Event()
        threading.stack_size(262_144)
        count = 0
        try:
            for _ in range(3000):
                threading.Thread(target=stop.wait).start()
                count += 1
        except RuntimeError as error:
            print(error)
        stop.set()
        count
    """
    async with sandbox_at(level) as sandbox:
        code = "\n".join(line[8:] for line in bomb.splitlines())
        repls = await asyncio.gather(*(sandbox.open(ReplSpec("", limits=SMALL)) for _ in range(2)))
        exploded, calm = await asyncio.gather(run_cell(repls[0], code), run_cell(repls[1], "6 * 7"))
        assert "can't start new thread" in exploded.stdout
        assert int(exploded.echo or 0) < 520
        assert calm.echo == "42"


@EVERY_LEVEL
async def test_repl_has_clean_process_state(level: str) -> None:
    os.environ["RLM_TEST_SECRET"] = "sesame"
    try:
        async with sandbox_at(level) as sandbox:
            code = "import os, sys\nprint(dict(os.environ), sys.argv, os.getcwd(), sys.flags.utf8_mode)"
            shown = (await run_once(sandbox, code)).stdout
            assert shown == "{} [''] / 1\n"
    finally:
        del os.environ["RLM_TEST_SECRET"]


async def test_repl_inherits_only_socket_and_null() -> None:
    leaked, other = socket.socketpair()
    with leaked, other, Path("/etc/passwd").open() as file:
        os.set_inheritable(leaked.fileno(), True)
        os.set_inheritable(file.fileno(), True)
        code = """
import os, stat
kinds = []
for fd in range(4096):
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        continue
    kinds.append(stat.S_IFMT(mode))
kinds = sorted((kind == stat.S_IFSOCK, kind == stat.S_IFCHR) for kind in kinds)
print(kinds.count((False, True)), [kind for kind in kinds if kind == (False, False)])
"""
        async with sandbox_at(BEST) as sandbox:
            plain, others = (await run_once(sandbox, code)).stdout.split(maxsplit=1)
            assert plain == "3"  # /dev/null as standard streams
            assert others.strip() == "[]"


@EVERY_LEVEL
async def test_computing_library_can_be_imported(level: str) -> None:
    names = """re json collections datetime math itertools textwrap statistics csv random string functools decimal fractions
        difflib html xml.etree.ElementTree sqlite3 zlib gzip bz2 lzma hashlib base64 unicodedata zoneinfo calendar heapq bisect
        dataclasses enum typing ast io pathlib copy pprint operator contextlib asyncio threading concurrent.futures time uuid
        urllib.parse email.parser tomllib configparser struct pickle logging graphlib secrets ipaddress encodings.cp1250"""
    async with sandbox_at(level) as sandbox:
        result = await run_once(sandbox, "\n".join(f"import {name}" for name in names.split()))
        assert result.end == "ok", result.traceback
        uses = """
import sqlite3, zoneinfo, datetime, decimal, re, time
db = sqlite3.connect(":memory:")
db.execute("create table t (x)")
db.executemany("insert into t values (?)", [(n,) for n in range(10)])
print(db.execute("select sum(x) from t").fetchone()[0], "äöü".encode("cp1252"), time.strptime("2024", "%Y").tm_year)
"""
        assert (await run_once(sandbox, uses)).stdout == "45 b'\\xe4\\xf6\\xfc' 2024\n"


async def test_time_zones_work_at_strict_level() -> None:
    if BEST != "strict" or not Path("/usr/share/zoneinfo/Europe/Berlin").exists():
        pytest.skip("no time zones on this machine, or not the strict level")
    code = "import zoneinfo, datetime as d\nprint(d.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')).utcoffset())"
    async with sandbox_at("strict") as sandbox:
        assert (await run_once(sandbox, code)).stdout == "2:00:00\n"


@EVERY_LEVEL
async def test_requested_compiled_package_can_be_imported(level: str) -> None:
    code = "import multidict\nd = multidict.MultiDict([('a', 1), ('a', 2)])\nprint(d.getall('a'), multidict.USE_EXTENSIONS)"
    async with sandbox_at(level, ("multidict",)) as sandbox:
        assert (await run_once(sandbox, code)).stdout == "[1, 2] True\n"
        assert "ModuleNotFoundError" in ((await run_once(sandbox, "import aiohttp")).error or "")
    async with sandbox_at(level) as sandbox:
        assert "ModuleNotFoundError" in ((await run_once(sandbox, "import multidict")).error or "")


async def test_missing_package_is_error_before_start() -> None:
    launcher = ZygoteLauncher(BEST, packages=("surely_not_installed",))
    with pytest.raises(ConfigurationError, match=r"surely_not_installed.*not installed"):
        await launcher.launch(SMALL)
    await launcher.aclose()


async def test_dead_zygote_is_replaced_and_reported() -> None:
    launcher = ZygoteLauncher(BEST)
    sandbox = WorkerSandbox(launcher)
    repl = await sandbox.open(ReplSpec("the context", limits=SMALL))
    zygote = launcher.zygote_pid
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)
    lost = await run_cell(repl, "import time\ntime.sleep(9)")
    assert (lost.end, lost.state_lost) == ("died", True)
    assert "zygote" in lost.notes[0]
    assert (await run_cell(repl, "context")).echo == "'the context'"
    assert launcher.zygote_pid != zygote
    await sandbox.aclose()


async def test_workers_end_with_their_zygote() -> None:
    launcher = ZygoteLauncher(BEST)
    workers = [await launcher.launch(SMALL) for _ in range(5)]
    zygote = launcher.zygote_pid
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)
    ends = await asyncio.wait_for(asyncio.gather(*(worker.wait() for worker in workers)), 5)
    assert all("zygote" in how for how in ends)
    assert await vanish(zygote, *(worker.pid for worker in workers)) == []
    another = await launcher.launch(SMALL)
    assert is_alive(another.pid)
    for worker in (*workers, another):
        worker.sock.close()
    await closed(launcher)


async def test_closed_launcher_ends_all_and_stays_closed() -> None:
    launcher = ZygoteLauncher(BEST)
    worker: ZygoteWorker = await launcher.launch(SMALL)
    await launcher.aclose()
    await launcher.aclose()
    assert not is_alive(worker.pid)
    worker.sock.close()
    with pytest.raises(SandboxError, match="closed"):
        await launcher.launch(SMALL)


async def test_cancelled_launch_leaves_no_process() -> None:
    launcher = ZygoteLauncher(BEST)
    first = await launcher.launch(SMALL)
    launches = [asyncio.create_task(launcher.launch(SMALL)) for _ in range(20)]
    await asyncio.sleep(0)
    for launch in launches:
        launch.cancel()
    await asyncio.gather(*launches, return_exceptions=True)
    last = await launcher.launch(SMALL)  # orders are served in turn, so the earlier ones are done
    assert is_alive(first.pid)
    left = await vanish(*children_of(first) - {first.pid, last.pid}, within_s=1.0)
    assert len(left) <= 1  # a process pre-forked for the next launch
    for worker in (first, last):
        worker.sock.close()
    await closed(launcher)


async def test_zygote_and_repls_end_with_killed_host(tmp_path: Path) -> None:
    """Holds even while a process forked by the host keeps copies of its sockets."""
    reader, writer = os.pipe()
    host = os.fork()
    if host == 0:
        asyncio.run(_be_host(writer, tmp_path))
    os.close(writer)
    with os.fdopen(reader) as output:
        pids = [int(pid) for pid in output.readline().split()]
    assert all(is_alive(pid) for pid in pids)
    os.kill(host, signal.SIGKILL)
    os.waitpid(host, 0)
    keeper, *family = pids
    assert await vanish(*family) == []
    os.kill(keeper, signal.SIGKILL)


async def _be_host(writer: int, _folder: Path) -> None:
    launcher = ZygoteLauncher(BEST)
    workers = [await launcher.launch(SMALL) for _ in range(3)]
    keeper = os.fork()
    if keeper == 0:
        signal.pause()
    zygote = launcher.zygote_pid or 0
    os.write(writer, " ".join(str(pid) for pid in (keeper, zygote, *(w.pid for w in workers))).encode() + b"\n")
    await asyncio.Event().wait()


async def test_closed_sandbox_closes_its_repls() -> None:
    async with sandbox_at(BEST) as sandbox:
        repl = await sandbox.open(ReplSpec("", limits=SMALL))
    with pytest.raises(SandboxDiedError):
        await run_cell(repl, "1")


@EVERY_LEVEL
async def test_package_that_starts_threads_is_refused(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forked processes would lack those threads, and an error is better than a cell that hangs."""
    (tmp_path / "threaded_package.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    launcher = ZygoteLauncher(level, packages=("threaded_package",))
    with pytest.raises(ConfigurationError, match="starts 1 threads"):
        await launcher.launch(SMALL)
    await launcher.aclose()


async def test_pandas_tables_work_if_installed() -> None:
    pytest.importorskip("pandas", reason="an optional package of cells")
    code = """
import numpy as np, pandas as pd
table = pd.DataFrame({"kind": list("abab"), "count": [1, 2, 3, 4]})
print(table.groupby("kind")["count"].sum().to_dict(), np.linalg.det(np.eye(3)), np.random.rand())
"""
    async with sandbox_at(BEST, ("numpy", "pandas")) as sandbox:
        first, second = [(await run_once(sandbox, code, ReplLimits(memory_mb=1024))).stdout for _ in range(2)]
        assert first.startswith("{'a': 4, 'b': 6} 1.0 ")
        assert first != second  # siblings draw different numbers
