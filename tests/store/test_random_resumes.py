"""Random programs that budgets and failing providers interrupt, resumed with larger limits until they are complete.

No sub-call of a cell is paid twice, and the answer is that of an undisturbed run. Limits hold, the run can be replayed, and all
folds over it agree. ``RLM_RESUME_SEEDS`` tries more programs.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest
from folds_kit import check_folds, outcomes

import rlm
from rlm.core.errors import BudgetExceededError, NoAnswerError, OutOfCreditError, RLMError
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel

SEEDS = int(os.environ.get("RLM_RESUME_SEEDS", "14"))
PIECES = (
    "r{n} = [llm_query(f'{n} loop {{i}}') for i in range({k})]",
    "r{n} = llm_query_batch([f'{n} batch {{i}}' for i in range({k})], on_error='raise')",
    """import asyncio
async def ask{n}():
    return await asyncio.gather(*(llm_query_async(f'{n} gather {{i}}') for i in range({k})))
r{n} = asyncio.run(ask{n}())""",
    """r{n} = []
for i in range({k}):
    try:
        r{n}.append(llm_query(f'{n} caught {{i}}'))
    except BudgetExceeded:
        print('refused', i)
        raise""",
    """from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(3) as pool:
    r{n} = list(pool.map(lambda i: llm_query(f'{n} thread {{i}}'), range({k})))""",
    "r{n} = [llm_query(f'{n} child {{i}}', recursive=True) for i in range({k})]",
)
CHILD = "```repl\nfound = llm_query(f'leaf of {context}')\n```"


class Program:
    """A root that writes one piece after the other and repeats each until it succeeds, with children of two turns."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        count = chance.randint(2, 4)
        self.pieces = [chance.choice(PIECES).format(n=n, k=chance.randint(1, 6)) for n in range(count)]
        self.final = f"FINAL([{', '.join(f'r{n}' for n in range(count))}])"
        self.failing = 0.0
        self.paid: Counter[str] = Counter()

    def answer(self, request: Request) -> str | RLMError:
        prompt = request.messages[-1].text
        turns_before = sum(message.role == "assistant" for message in request.messages)
        if request.role == "leaf":
            if self.chance.random() < self.failing:
                return OutOfCreditError("no credit left")
            self.paid[prompt] += 1
            return f"<{prompt}>"
        if "Answer now" in prompt:  # the cell that the root runs here is superseded when it goes on
            return "```repl\nr0 = 'cut'\nprint(r0)\n```\nFINAL_VAR(r0)" if request.depth == 0 else "FINAL(cut)"
        if request.depth > 0:
            return CHILD if turns_before == 0 else "FINAL_VAR(found)"
        seen = [message.text for message in request.messages[3:] if message.role == "user"]
        done = sum("Error" not in output and "BudgetExceeded" not in output for output in seen)
        return f"```repl\n{[*self.pieces, self.final][done]}\n```"


def engine(program: Program, store: Path | None, **options: object) -> rlm.RLM:
    return rlm.RLM(
        ScriptedModel(program.answer), store=store, max_depth=2, max_iterations=80, **options  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(SEEDS))
def test_run_interrupted_repeatedly_reaches_its_answer(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    program = Program(chance)
    whole = engine(program, None).run("q", "context").answer
    program.paid.clear()
    program.failing = chance.choice([0.0, 0.05, 0.1])
    store, calls, result = tmp_path / "runs.db", chance.randint(2, 4), None
    while result is None or result.status != "complete":
        budget = rlm.Budget(calls=calls)
        with engine(program, store, budget=budget, concurrency=chance.choice([1, 4, 64])) as resuming:
            try:
                result = resuming.resume("last", budget=budget) if store.exists() else resuming.run("q", "context")
                assert result.used["calls"].used <= calls
            except (OutOfCreditError, BudgetExceededError, NoAnswerError):
                result = None
        calls += chance.randint(3, 12) + calls // 4
        program.failing /= 2
    assert result.tree is not None
    times = Counter(cell.code for cell, _ in result.tree.cells)
    for prompt, paid in program.paid.items():
        piece = program.pieces[int(prompt.removeprefix("leaf of ").split()[0])]
        assert paid <= times[piece], f"{prompt!r} was paid {paid} times"
    if "cut" not in str(result.answer):  # a child had to answer too early
        assert result.answer == whole
    again = engine(program, store)
    assert again.replay("last").answer == result.answer
    root = check_folds(again._parts.records.need_store().events(result.run_id))
    assert outcomes(root) == outcomes(result.tree)  # the record gives the tree that the last process had
