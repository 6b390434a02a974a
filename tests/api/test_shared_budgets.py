"""Budgets that many runs, objects and processes share. What models bill never exceeds them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlm
from rlm.cli.records import recorded_budget
from rlm.core.amounts import NOTHING, Amounts
from rlm.core.errors import BudgetExceededError, ConfigurationError, StoreError
from rlm.core.messages import Reply, Request, Usage
from rlm.core.pool import BudgetPool, MemoryPool, Pool, is_shared
from rlm.store.shared_budget import FilePool
from rlm.testing.scripted import ScriptedModel

ROOT = Path(__file__).parents[2]
COLLECT = (
    "```repl\nfound = [x for x in llm_query_batch([f'item {n}' for n in range(40)]) if not hasattr(x, 'error')]\n```"
)


class Billed:
    """A model whose root asks 40 leaves, and that counts its own calls and tokens."""

    def __init__(self) -> None:
        self.calls = self.tokens = 0
        self.model = ScriptedModel(self.answer)

    def answer(self, request: Request) -> Reply:
        prompt = request.messages[-1].text
        usage = Usage(1, sum(len(message.text) for message in request.messages) // 4, 0, 0, 50)
        self.calls += 1
        self.tokens += usage.total_tokens
        text = "leaf"
        if request.role == "node":
            asked = any(message.role == "assistant" for message in request.messages)
            text = "```repl\nFINAL(len(found))\n```" if asked else COLLECT
            text = "FINAL(cut)" if "Answer now" in prompt and not asked else text
        return Reply(text, usage, "m")

    def engine(self, budget: rlm.Budget, **options: object) -> rlm.RLM:
        return rlm.RLM(self.model, budget=budget, **{"store": None, **options})  # type: ignore[arg-type]


async def outcomes(*engines: rlm.RLM, runs: int) -> list[rlm.Result | BaseException]:
    work = [engines[n % len(engines)].arun("q", "context") for n in range(runs)]
    return await asyncio.gather(*work, return_exceptions=True)


@pytest.mark.parametrize("place", [None, "budget.db"])
@pytest.mark.parametrize("limit", ["calls", "tokens", "usd"])
async def test_concurrent_runs_never_exceed_their_shared_budget(tmp_path: Path, place: str | None, limit: str) -> None:
    billed, prices = Billed(), {"scripted:root": (10.0, 10.0)}
    most = {"calls": 300, "tokens": 120_000, "usd": 1.2}[limit]
    budget = rlm.Budget.shared(**{limit: most}, name="team", path=None if place is None else tmp_path / place)  # type: ignore[arg-type]
    engines = [billed.engine(budget, prices=prices) for _ in range(3)]
    ended = await outcomes(*engines, runs=50)
    used = {"calls": billed.calls, "tokens": billed.tokens, "usd": billed.tokens / 1e5}[limit]
    assert 0.25 * most < used <= most  # the rest is what 50 runs keep for their last turns
    label = f"{limit} (shared: team)"
    partial = [result for result in ended if isinstance(result, rlm.Result) and result.status == "partial"]
    failed = [error for error in ended if not isinstance(error, rlm.Result)]
    assert all(result.limit == label and result.used[label].allowed == most for result in partial)
    assert all(isinstance(error, BudgetExceededError) and error.limit == label for error in failed), failed
    assert len(partial) + len(failed) > 10


async def test_run_names_the_shared_budget_that_it_met() -> None:
    billed = Billed()
    result = await billed.engine(rlm.Budget.shared(calls=12, name="team")).arun("q", "context")
    assert (result.status, result.limit, billed.calls) == ("partial", "calls (shared: team)", 12)
    assert result.answer == 10
    assert result.unfinished.refused_calls == 30
    assert result.used["calls (shared: team)"].left == 0
    tiny = await billed.engine(rlm.Budget.shared(calls=1)).arun("q", "context")
    assert (tiny.status, tiny.answer, tiny.limit) == ("partial", "cut", "calls (shared)")


async def test_own_limits_hold_within_a_shared_budget() -> None:
    billed = Billed()
    shared = rlm.Budget.shared(calls=1_000)
    result = await billed.engine(rlm.Budget(calls=9).within(shared)).arun("q", "context")
    assert (result.limit, billed.calls) == ("calls", 9)
    assert result.used["calls (shared)"].used == 9
    again = await billed.engine(shared).arun("q", "context")
    assert (again.status, again.used["calls (shared)"].used) == ("complete", 9 + 42)


async def test_resume_continues_with_room_in_the_shared_budget(tmp_path: Path) -> None:
    billed, store = Billed(), tmp_path / "runs.db"
    small = billed.engine(rlm.Budget.shared(calls=12), store=store)
    first = await small.arun("q", "context")
    assert (first.limit, first.answer) == ("calls (shared)", 10)
    other = Billed()
    larger = other.engine(rlm.Budget.shared(calls=40), store=store)
    second = await larger.aresume(first.run_id)
    assert (second.status, second.answer, second.used["calls (shared)"].used) == ("complete", 40, 31)
    assert other.calls == 31  # 30 refused leaves, and the turn that had been the last one


def test_malformed_shared_budgets_are_refused(tmp_path: Path) -> None:
    for arguments in ({}, {"usd": 0}, {"calls": -1}, {"tokens": float("nan")}, {"usd": 1, "per": "fortnight"}):
        with pytest.raises(ConfigurationError):
            rlm.Budget.shared(**arguments)
    with pytest.raises(ConfigurationError, match=r"Budget\.shared"):
        rlm.Budget(calls=1).within(rlm.Budget(calls=2))
    (tmp_path / "file").write_text("no database")
    for path in (tmp_path / "file", tmp_path / "file" / "below.db", tmp_path):
        with pytest.raises(StoreError, match="shared budget"):
            Billed().engine(rlm.Budget.shared(calls=1, path=path)).run("q", "context")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(params=["memory", "file"])
def pool_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Pool, Clock]]:
    """A pool of 10 calls a day, and its clock."""
    clock = Clock()
    spec = BudgetPool(calls=10, per_s=86_400.0, path=str(tmp_path / "pool.db"))
    if request.param == "memory":
        yield MemoryPool(spec, clock), clock
        return
    pool = FilePool(spec, clock)
    yield pool, clock
    pool.close()


def test_pool_renews_and_refunds(pool_at: tuple[Pool, Clock]) -> None:
    pool, clock = pool_at
    freed: list[str] = []
    assert pool.take(Amounts(7), Amounts(2))
    assert not pool.take(Amounts(2), NOTHING)
    assert pool.lacking(Amounts(2)) == "calls (shared)"
    assert pool.lacking(Amounts(8), ignore_held=True) is None
    pool.listen(lambda: freed.append("freed"))
    pool.settle(Amounts(7), Amounts(3))
    pool.keep(NOTHING - Amounts(1))
    assert freed == ["freed"]
    assert pool.take(Amounts(6), NOTHING)
    pool.settle(Amounts(6), Amounts(6))
    use = pool.uses()["calls (shared)"]
    assert (use.used, use.allowed, use.left) == (9, 10, 0)
    clock.now_s += 86_399
    assert not pool.take(Amounts(1), NOTHING)
    clock.now_s += 1
    assert pool.take(Amounts(9), NOTHING)  # one is kept for a last turn, also in the new window
    pool.settle(Amounts(9), Amounts(9))
    clock.now_s -= 10_000  # a clock that is set back renews nothing
    assert not pool.take(Amounts(1), NOTHING)


def test_label_of_a_shared_limit_is_recognised() -> None:
    assert is_shared(BudgetPool(usd=1, name="a)b").label("usd"))
    assert not is_shared("usd")


SPENDS = """
import json, sys, time, rlm
from rlm.testing.scripted import ScriptedModel
calls, hang = 0, sys.argv[2] == "hang"
def script(request):
    global calls
    calls += 1
    if request.role == "leaf":
        async def leaf():
            import asyncio
            if hang:
                print("in flight", flush=True)
                await asyncio.sleep(60)
            return "leaf"
        return leaf()
    asked = any(message.role == "assistant" for message in request.messages)
    return "```repl\\nFINAL(1)\\n```" if asked else "```repl\\nllm_query_batch([str(n) for n in range(30)])\\n```"
budget = rlm.Budget.shared(calls=100, name="team", path=sys.argv[1])
for _ in range(5):
    try:
        rlm.RLM(ScriptedModel(script), budget=budget, store=None).run("q", "context")
    except rlm.RLMError as error:
        pass
print(json.dumps(calls))
"""


def spend(path: Path, how: str) -> subprocess.Popen[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    return subprocess.Popen([sys.executable, "-c", SPENDS, str(path), how], stdout=subprocess.PIPE, text=True, env=env)


def test_processes_share_a_budget(tmp_path: Path) -> None:
    processes = [spend(tmp_path / "pool.db", "now") for _ in range(3)]
    calls = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert 90 <= sum(calls) <= 100


def test_calls_of_a_killed_process_count_as_spent(tmp_path: Path) -> None:
    hanging = spend(tmp_path / "pool.db", "hang")
    assert hanging.stdout is not None
    assert hanging.stdout.readline() == "in flight\n"
    time.sleep(0.3)
    os.kill(hanging.pid, signal.SIGKILL)
    hanging.communicate()
    pool = FilePool(BudgetPool(calls=100, name="team", path=str(tmp_path / "pool.db")))
    before = pool.uses()["calls (shared: team)"]
    assert not pool.take(Amounts(100), NOTHING)
    after = pool.uses()["calls (shared: team)"]
    pool.close()
    assert (before.used, after.used) == (1, 31)  # the root's turn, and 30 leaves in flight


def test_shared_budget_is_not_taken_from_a_record(tmp_path: Path) -> None:
    billed, store = Billed(), tmp_path / "runs.db"
    with billed.engine(rlm.Budget.shared(calls=12, name="team"), store=store) as engine:
        engine.run("q", "context")
    with rlm.open_store(store) as runs, pytest.raises(ConfigurationError, match=r"call resume\(\) there"):
        recorded_budget(runs.runs()[0])
