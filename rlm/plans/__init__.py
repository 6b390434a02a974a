"""Plans: fixed programs in the role of a node's model. The built-in plans are the modules of this package.

    from rlm.plans import Task, cell

    def plan(task: Task):
        observation = yield cell("print(len(context))")
        yield cell(f"FINAL({observation!r})")

A plan is a function of the task. It yields replies, as a model would write them, and is sent the observations: the output of its
cells. A function that needs only one reply can return it. A plan has no state between turns: every turn runs it from its start,
with the same observations. So it must yield the same replies, without a clock, randomness or files.
"""

from __future__ import annotations

from rlm.core.messages import Task

__all__ = ["Task", "cell"]


def cell(code: str, say: str = "") -> str:
    """A reply that runs ``code`` as one cell, after a sentence for the people who watch."""
    return f"{say}\n\n```repl\n{code.strip()}\n```".strip()
