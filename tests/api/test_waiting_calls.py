"""Cost of a call that waits for its reply: coroutine frames, tasks and objects. The garbage collector walks through all of them.

The bounds are close to what a call takes, so that one more frame or object is noticed in the commit that adds it.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import CoroutineType

from rlm import RLM
from rlm.core.events import AnyEvent, CallSent
from rlm.models.openai_chat import OpenAIChat
from rlm.testing.scripted import ScriptedModel

MAX_FRAMES = 6
MAX_OBJECTS = 53  # 20 of them belong to the open connection


@contextmanager
def silent_server() -> Iterator[str]:
    """An address at which the kernel accepts connections, and no process reads. It takes no object of this process."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@contextmanager
def waiting_calls(address: str, count: int) -> Iterator[None]:
    """A run whose cell waits for that many calls."""
    cell = f"```repl\nllm_query_batch([f'item {{i}}' for i in range({count})])\n```"
    sent: list[None] = []

    def note(event: AnyEvent) -> None:
        if isinstance(event, CallSent):
            sent.append(None)

    leaf = OpenAIChat("leaf", api_key="k", base_url=address)
    root = ScriptedModel(lambda _request: cell)
    with RLM(root, sub_model=leaf, store=None, sinks=[note], concurrency=count) as engine:
        handle = engine.start("wait", "x")
        deadline = time.monotonic() + 60
        while len(sent) < count + 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)  # until the connections are open
        yield
        handle.cancel()


def frames(task: asyncio.Task[object]) -> tuple[str, ...]:
    names = list[str]()
    frame: object = task.get_coro()
    while isinstance(frame, CoroutineType):
        names.append(frame.__qualname__)
        frame = frame.cr_await
    return tuple(names)


def objects() -> int:
    gc.collect()
    return len(gc.get_objects())


def test_waiting_call_holds_one_task_and_few_frames() -> None:
    with silent_server() as address, waiting_calls(address, 40):
        tasks = [item for item in gc.get_objects() if isinstance(item, asyncio.Task) and not item.done()]
        stacks = Counter(frames(task) for task in tasks)
    stack, count = stacks.most_common(1)[0]
    assert count == 40
    assert len(stack) <= MAX_FRAMES, stack
    assert len(tasks) < 40 + 10


def test_waiting_call_holds_few_objects() -> None:
    with silent_server() as address:
        counts = []
        for calls in (20, 20, 220):  # the first run creates what all runs share
            with waiting_calls(address, calls):
                counts.append(objects())
    assert (counts[2] - counts[1]) / 200 <= MAX_OBJECTS
