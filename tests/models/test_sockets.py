"""Sockets are limited over the process: calls wait for one, idle connections are closed first, and journals are open in time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import rlm
from rlm.descriptors import are_scarce, raise_limit, socket_capacity, soft_limit
from rlm.models.openai_chat import OpenAIChat
from rlm.models.sockets import SocketGate, gate, is_out_of_descriptors
from rlm.testing.server import ScriptedServer
from rlm.testing.wire import ChatCall

ROOT = Path(__file__).parents[2]
RUNS, CALLS = 16, 200

PROGRAM = """
import json, resource, sys, threading
import rlm
place, address, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
results = []
def ask(number):
    try:
        with rlm.RLM("openai:m", store=place, retries=0) as engine:
            results.append(engine.run(f"question {number}", "context").status)
    except Exception as error:
        results.append(f"{type(error).__name__}: {error}")
threads = [threading.Thread(target=ask, args=(number,)) for number in range(runs)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps({"results": results, "soft": resource.getrlimit(resource.RLIMIT_NOFILE)[0]}))
"""


def batches(call: ChatCall) -> str:
    if not call.is_root:
        return "leaf"
    code = f"answers = llm_query_batch([f'{{i}}' for i in range({CALLS})])\nprint(answers.count('leaf'))"
    return f"```repl\n{code}\n```" if call.turn == 1 else "FINAL_VAR(answers)"


def run_limited(place: Path, soft: int, hard: int, runs: int) -> dict[str, object]:
    with ScriptedServer.in_thread(batches, latency_s=0.5) as server:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(place.parent), "LANG": "C.UTF-8"}
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(place), server.base_url, str(runs)],
            env=env | {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "k"},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
            capture_output=True,
            timeout=240,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr.decode()
    report: dict[str, object] = json.loads(ended.stdout)
    return report | {"stderr": ended.stderr.decode()}


@pytest.mark.parametrize("limit", [256, 1024])
def test_many_runs_complete_with_few_descriptors(tmp_path: Path, limit: int) -> None:
    report = run_limited(tmp_path / "runs.db", limit, limit, RUNS)
    assert report["results"] == ["complete"] * RUNS, report
    with rlm.open_store(tmp_path / "runs.db") as store:
        calls = [store.result(info.id).usage.total.usage.calls for info in store.runs()]
    assert calls == [CALLS + 2] * RUNS, "every answer is recorded"


def test_first_run_raises_the_soft_limit(tmp_path: Path) -> None:
    report = run_limited(tmp_path / "runs.db", 128, 4096, 1)
    assert (report["results"], report["soft"]) == (["complete"], 4096)


def test_call_waits_for_a_socket_in_order() -> None:
    async def scenario() -> list[str]:
        sockets, order = SocketGate(2), list[str]()

        async def use(name: str) -> None:
            await sockets.acquire()
            order.append(name)
            await asyncio.sleep(0)
            sockets.release()

        await sockets.acquire()
        await sockets.acquire()
        tasks = [asyncio.create_task(use(name)) for name in "abc"]
        await asyncio.sleep(0)
        assert order == []
        tasks[1].cancel()
        sockets.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        sockets.release()
        await asyncio.wait_for(sockets.acquire(), 1)
        await asyncio.wait_for(sockets.acquire(), 1)
        return order

    assert asyncio.run(scenario()) == ["a", "c"]


def test_cancelled_waiter_passes_its_socket_on() -> None:
    async def scenario() -> None:
        sockets = SocketGate(1)
        await sockets.acquire()
        first, second = (asyncio.create_task(sockets.acquire()) for _ in range(2))
        await asyncio.sleep(0)
        sockets.release()
        first.cancel()
        await asyncio.wait_for(second, 1)
        assert first.cancelled() or first.done()

    asyncio.run(scenario())


def test_idle_connections_are_closed_first() -> None:
    async def scenario(address: str) -> None:
        models = [OpenAIChat("m", api_key="k", base_url=address) for _ in range(2)]
        sockets = gate()
        sockets.capacity = 4
        request = rlm.Request((rlm.Message("user", "x"),))
        for model in models:
            await asyncio.gather(*(model.ask(request) for _ in range(4)))
            idle = sum(connector.idle for connector in sockets.connectors)
            assert 0 < idle <= 4
        for model in models:
            await model.aclose()

    with ScriptedServer.in_thread(lambda _: "leaf", latency_s=0.02) as server:
        asyncio.run(scenario(server.base_url))


EXHAUSTED = """
import asyncio, os, resource, sys
import rlm
from rlm.models.openai_chat import OpenAIChat
from rlm.models.sockets import gate

async def main():
    gate()  # raises the limit, once in a loop
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        os.dup(0)
    except OSError:
        print("exhausted", flush=True)
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
    model = OpenAIChat("m", api_key="k", base_url=sys.argv[1])
    began = loop.time()
    reply = await model.ask(rlm.Request((rlm.Message("user", "x"),)))
    print(reply.text, loop.time() - began >= 0.3)
    await model.aclose()

asyncio.run(main())
"""


def test_connection_waits_for_a_descriptor() -> None:
    with ScriptedServer.in_thread(lambda _: "leaf") as server:
        ended = subprocess.run(
            [sys.executable, "-c", EXHAUSTED, server.base_url],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (ended.stdout.splitlines(), ended.returncode) == (["exhausted", "leaf True"], 0), ended.stderr


def test_limits_leave_room_for_everything_besides_sockets() -> None:
    raise_limit()
    assert 4 <= socket_capacity() <= max(4, soft_limit() // 2)
    assert not are_scarce(1)
    assert is_out_of_descriptors(OSError(errno.ENFILE, "x"))


def test_descriptors_are_scarce_if_none_is_left() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = are_scarce(1)
    with contextlib.ExitStack() as opened:
        highest = max(opened.enter_context(Path(os.devnull).open()).fileno() for _ in range(3))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, limits[1]))
        try:
            with contextlib.suppress(OSError):
                while True:
                    opened.enter_context(Path(os.devnull).open())
            assert are_scarce(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not before


def test_errors_of_descriptors_are_recognised() -> None:
    assert not is_out_of_descriptors(OSError(errno.ECONNREFUSED, "x"))
