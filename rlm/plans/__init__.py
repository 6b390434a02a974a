"""Plans: fixed programs that play a node's model. What a plan is written with; the plans that come along are the modules here.

    from rlm.plans import Task, cell

    def plan(task: Task):
        observation = yield cell("print(len(context))")
        yield cell(f"FINAL({observation!r})")

A plan is a function of the task. It yields replies, as a model would write them, and is sent what the model would be shown:
the output of its cells. A function that needs one reply only may return it. A plan keeps no state between turns: it is run
from its start at every turn and sent the same observations, so it must yield the same replies (no clock, no chance, no files).
"""

from __future__ import annotations

from rlm.core.messages import Task

__all__ = ["Task", "cell"]


def cell(code: str, say: str = "") -> str:
    """A reply that runs ``code`` as one cell, with a sentence before it for the people who watch."""
    return f"{say}\n\n```repl\n{code.strip()}\n```".strip()
