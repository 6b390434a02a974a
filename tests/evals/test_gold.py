"""The reference root's program, outside the engine, agrees with every gold answer.

It shares no code with the generators, but it has the same author; see ``test_independent.py``.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from eval_kit import POOLS, many_items, solve_without_engine, write_trec
from rlm_evals import oolong, pairs
from rlm_evals.pools import Pools
from rlm_evals.reference import program
from rlm_evals.scorers import score


@pytest.mark.slow
def test_reference_program_solves_five_thousand_random_items() -> None:
    seen: dict[str, int] = {}
    wrong = []
    for item in many_items(5000):
        judged = score(item, solve_without_engine(item))
        tied = item.scorer == "oolong" and len(item.gold) > 1
        if judged.value != 1.0 or (judged.published != 1.0 and not tied):
            wrong.append((item.id, item.question, item.gold[:3], judged))
        seen[item.task] = seen.get(item.task, 0) + 1
    assert wrong == []
    assert sum(seen.values()) >= 5000
    assert len(seen) > 150  # forms of questions by source


def test_reference_program_shares_no_generator_code() -> None:
    tree = ast.parse(Path(program.__file__).read_text())
    modules = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in modules if module.startswith("rlm")}


@pytest.mark.parametrize("length", [1024, 32_768])
def test_reference_program_solves_pairs_in_paper_wording(length: int, tmp_path: Path) -> None:
    """The wording of appendix D.1 over trec_coarse, a source in the user's folder."""
    own = Pools(write_trec(tmp_path))
    for item in pairs.make_items(own, "trec_coarse", length, 20, 3):
        assert score(item, solve_without_engine(item)).value == 1.0, item.question


def test_wrong_labels_lower_the_score() -> None:
    """Control: with wrong labels the solver's answers are wrong."""
    items = list(oolong.make_items(POOLS, "mixed", 4096, 25, 5))
    scores = [score(item, solve_without_engine(item, noise=0.5)).value for item in items]
    assert sum(value < 1.0 for value in scores) >= 5
