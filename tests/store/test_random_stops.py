"""Runs that are stopped at random moments, in each way that a caller has, and resumed until they have their answer.

Nothing that a stop cut off is lost: the answer is that of an undisturbed run, and every answered call was paid once.
``RLM_STOP_SEEDS`` tries more programs.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from folds_kit import check_folds
from scripts_kit import block, turn_of

import rlm
from rlm.core.errors import NoAnswerError, RunCancelledError, StoreError
from rlm.core.messages import Request
from rlm.core.tree import Unfinished
from rlm.runtime.handles import RunHandle
from rlm.testing.scripted import ScriptedModel

SEEDS = int(os.environ.get("RLM_STOP_SEEDS", "5"))
WAIT_S = 30

# Pieces of programs. Some look at the failures that a stop causes, some print them, some catch them.
PIECES = (
    "r{n} = llm_query_batch([f'{n} batch {{i}}' for i in range({k})])\nprint(sum(isinstance(x, FailedCall) for x in r{n}))",
    "r{n} = [llm_query(f'{n} loop {{i}}') for i in range({k})]",
    """import asyncio
async def ask{n}():
    return await asyncio.gather(*(llm_query_async(f'{n} gather {{i}}') for i in range({k})), return_exceptions=True)
r{n} = [str(x) for x in asyncio.run(ask{n}())]""",
    """from concurrent.futures import ThreadPoolExecutor
def one{n}(i):
    try:
        return llm_query(f'{n} thread {{i}}')
    except Exception as error:
        return 'failed'
with ThreadPoolExecutor(4) as pool:
    r{n} = list(pool.map(one{n}, range({k})))""",
    "r{n} = [str(x) for x in llm_query_batch([f'{n} child {{i}}' for i in range({k})], recursive=True)]",
)
CHILD = (
    "mine = llm_query_batch([f'{part} of {context}' for part in 'ab'], recursive=False)\nprint(mine)",
    "below = [str(llm_query('below ' + str(x))) for x in mine]\nFINAL(' '.join(map(str, mine)) + ' ' + ' '.join(below))",
)


class Program:
    """A root that writes one piece a turn, its children, and leaves that take a moment. It can be held at its n-th request.

    ``paid`` counts the answered requests by their prompt.
    """

    def __init__(self, chance: random.Random) -> None:
        count = chance.randint(1, 3)
        self.pieces = [chance.choice(PIECES).format(n=n, k=chance.randint(1, 9)) for n in range(count)]
        self.final = f"FINAL([{', '.join(f'r{n}' for n in range(count))}])"
        self.paid: Counter[str] = Counter()
        self.asked = 0
        self.hold_at = 0
        self.held = threading.Event()
        self.last_turn = threading.Event()

    def script(self, request: Request) -> object:
        return self._answer(request)

    async def _answer(self, request: Request) -> str:
        self.asked += 1
        newest = request.messages[-1].text
        last = "Answer now" in newest
        if last:
            self.last_turn.set()
        if self.hold_at and (last or self.asked >= self.hold_at):
            self.held.set()
            await asyncio.sleep(WAIT_S)
        await asyncio.sleep(0.001)
        name = newest if request.role == "leaf" else f"turn {turn_of(request)}: {request.messages[1].text}"
        if not last:
            self.paid[name] += 1
        if request.role == "leaf":
            return f"<{newest[-60:]}>"
        codes = [*self.pieces, self.final] if request.depth == 0 else CHILD
        return block(codes[min(turn_of(request), len(codes)) - 1])

    def engine(self, store: Path | None, **options: object) -> rlm.RLM:
        return rlm.RLM(ScriptedModel(self.script), store=store, max_depth=3, **options)  # type: ignore[arg-type]


def start(engine: rlm.RLM, store: Path) -> RunHandle:
    """Starts the run, or resumes it as soon as its last process has ended it."""
    for _ in range(500):
        try:
            return engine.start_resume("last") if store.exists() else engine.start("q", "context")
        except StoreError as error:
            assert "being executed" in str(error), error  # noqa: PT017
            threading.Event().wait(0.01)
    raise AssertionError("the run did not end")


def finish_and_cancel(program: Program, handle: RunHandle) -> None:
    """Ctrl-C twice: the second one in the last turn, if the run reaches it."""
    handle.finish()
    program.last_turn.wait(0.3)
    handle.cancel()


def finish_and_cancel_at_once(_: Program, handle: RunHandle) -> None:
    handle.finish()
    handle.cancel()


def cancel(_: Program, handle: RunHandle) -> None:
    handle.cancel()


def finish(program: Program, handle: RunHandle) -> None:
    """Ctrl-C once: the last turn answers, or finds no answer."""
    handle.finish()
    program.hold_at = 0


def time_out(_: Program, handle: RunHandle) -> None:
    """A caller whose own timeout cancels its task."""

    async def wait() -> None:
        async with asyncio.timeout(0.01):
            await handle

    with pytest.raises(TimeoutError):
        asyncio.run(wait())


STOPS: tuple[Callable[[Program, RunHandle], None], ...] = (
    finish_and_cancel,
    finish_and_cancel_at_once,
    cancel,
    finish,
    time_out,
)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_stopped_runs_reach_their_answer(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    program = Program(chance)
    with program.engine(None) as engine:
        whole = engine.run("q", "context").answer
    once, requests = Counter(program.paid), program.asked
    program.paid.clear()
    store, result = tmp_path / "runs.db", None
    for _ in range(chance.randint(1, 4)):
        program.asked, program.hold_at = 0, chance.randint(1, requests)
        program.held.clear()
        program.last_turn.clear()
        with program.engine(store, hedge=chance.random() < 0.5, concurrency=chance.choice([2, 64])) as engine:
            handle = start(engine, store)
            while not program.held.wait(0.01) and not handle.done:
                pass
            if not handle.done:
                chance.choice(STOPS)(program, handle)
            try:
                result = handle.result(WAIT_S)
            except (RunCancelledError, NoAnswerError, CancelledError):
                result = None
            if result is not None and result.status == "complete":
                assert result.answer == whole  # it ended before the stop
    program.hold_at = 0
    with program.engine(store) as engine:
        result = engine.resume("last")
    assert (result.status, result.answer, result.unfinished) == ("complete", whole, Unfinished())
    assert program.paid == once
    with rlm.open_store(store) as runs:
        check_folds(runs.events(result.run_id))
