"""Evaluation: tasks with exact gold answers, methods compared on equal terms, and reports.

    from rlm_evals import make_items, score

    for item in make_items("oolong/spam", 32_768, 25):
        print(item.task, score(item, my_program(item.question, item.context)).value)

From the command line: ``rlm eval run``, ``rlm eval report``. Everything in ``__all__`` is public.
"""

from rlm_evals.arms import Arm, ArmSpec, Outcome, Terms, open_arm, parse_arm
from rlm_evals.exchange import read_items, write_items
from rlm_evals.harness import Plan, Tally, TotalBudget, run_comparison
from rlm_evals.item import Item
from rlm_evals.pools import Pools
from rlm_evals.report import render_report
from rlm_evals.results import Line, ResultsFile, read_results
from rlm_evals.scorers import Score, score
from rlm_evals.tasks import known_tasks, make_items

__all__ = [
    "Arm",
    "ArmSpec",
    "Item",
    "Line",
    "Outcome",
    "Plan",
    "Pools",
    "ResultsFile",
    "Score",
    "Tally",
    "Terms",
    "TotalBudget",
    "known_tasks",
    "make_items",
    "open_arm",
    "parse_arm",
    "read_items",
    "read_results",
    "render_report",
    "run_comparison",
    "score",
    "write_items",
]
