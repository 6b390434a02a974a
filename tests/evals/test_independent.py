"""A solver by another author agrees with every gold answer.

The author of `independent_solver` had seen neither the generators nor the scorers nor a gold answer. A misread definition of a
paper would have to occur twice to stay hidden. `RLM_EVALS=full` runs ten times the items, and some of 128K.
"""

from __future__ import annotations

import ast
import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import independent_solver
import pytest
from eval_kit import POOLS, TREC_QUESTIONS, write_trec
from independent_solver import Solver, Unanswerable
from rlm_evals import Item, Pools, data, known_tasks, make_items, pairs, score
from rlm_evals.pools import SOURCES
from rlm_evals.windows import make_window, render

FULL = os.environ.get("RLM_EVALS") == "full"
PACKED = Path(data.__file__).parent
SOLVER = Solver(PACKED)

# Nominal length, seeds, items per task and seed. At least twenty, because twenty forms of pairs and records share a context.
AMOUNTS = ((1024, 3, 30), (2048, 2, 30), (4096, 2, 25), (8192, 1, 30), (16_384, 1, 20), (32_768, 1, 20))
FULL_AMOUNTS = (*((length, 10 * seeds, items) for length, seeds, items in AMOUNTS), (131_072, 1, 20))


def random_items(task: str) -> Iterator[Item]:
    for length, seeds, count in FULL_AMOUNTS if FULL else AMOUNTS:
        for seed in range(seeds):
            yield from make_items(
                task, length, count, seed=7_000 + seed, pools=POOLS
            )  # distinct from other tests' seeds


def in_the_form_asked(question: str, answer: str) -> str:
    """Reply in the requested form, such as 'Answer: ham is more common than spam' or 'Date: 01/31/2023'."""
    form = re.search(r"final answer in the form '(.+?)'(?:[.,]| where)", question)
    assert form is not None, question
    return form[1].replace("[X]", answer) if "[X]" in form[1] else form[1].partition(": ")[0] + ": " + answer


def disagreements(solver: Solver, items: Iterator[Item]) -> list[tuple[str, str, object, object]]:
    """Items with gold answers that differ from the solver's, or with a scorer that rejects one of them."""
    failures: list[tuple[str, str, object, object]] = []
    for item in items:
        try:
            answers = solver.solve(item.question, item.context)
        except (Unanswerable, KeyError) as error:
            failures.append((item.id, item.question, repr(error), item.gold[:3]))
            continue
        whole = item.scorer in ("pairs", "ruler", "list")
        replies = ["\n".join(answers)] if whole else [in_the_form_asked(item.question, answer) for answer in answers]
        if answers != set(item.gold) or any(score(item, reply).value != 1.0 for reply in replies):
            failures.append((item.id, item.question, sorted(answers)[:3], item.gold[:3]))
    return failures


@pytest.mark.slow
@pytest.mark.timeout(1200 if FULL else 120)
def test_solver_agrees_on_five_thousand_random_items() -> None:
    seen: Counter[str] = Counter()

    def counted(task: str) -> Iterator[Item]:
        for item in random_items(task):
            seen[item.task] += 1
            yield item

    wrong = [failure for task in known_tasks() for failure in disagreements(SOLVER, counted(task))]
    assert wrong == []
    assert seen.total() >= (50_000 if FULL else 5_000)
    assert len(seen) > 150  # forms of questions by source


def test_solver_agrees_on_paper_wording(tmp_path: Path) -> None:
    """Questions over trec_coarse, the source with the labels of the paper's pairs."""
    own = Pools(write_trec(tmp_path))
    brought: dict[str, str] = {}
    for task in ("pairs/trec_coarse", "oolong/trec_coarse"):
        items = list(make_items(task, 8192, 25, seed=7, pools=own))
        for item in items:
            brought |= item.labels
        assert disagreements(Solver(PACKED, brought), iter(items)) == []
    assert len(set(brought.values())) == len(TREC_QUESTIONS)


@pytest.mark.parametrize("task", [task for task in pairs.TASKS if isinstance(task, pairs.Both) and task.dated])
def test_solver_agrees_on_boundary_dates(task: pairs.Both) -> None:
    """Every row is on the day that a question names, or next to it. Random dates rarely hit that day."""
    window = make_window(POOLS, "mixed", 2048, 7)
    names = pairs.name_labels(window)
    beside = [task.day + timedelta(days=shift) for shift in (-1, 0, 1)]
    for turn in range(8):
        rng = random.Random(turn)
        rows = [replace(row, date=rng.choice(beside), user=rng.randint(10_000, 10_015)) for row in window.rows]
        context = render(SOURCES["mixed"], window.labels, rows)
        answers = SOLVER.solve(pairs.ask(task, names, SOURCES["mixed"].things), context)
        assert answers == set(pairs.solve(task, names, rows))


def test_solver_imports_standard_library_only() -> None:
    """Excludes code shared with the generators or the reference program."""
    tree = ast.parse(Path(independent_solver.__file__).read_text(encoding="utf-8"))
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in modules if module.partition(".")[0] in ("rlm", "eval_kit", "tests")}
