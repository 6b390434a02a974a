"""An item: one question over one context, with the answer that is right. What tasks make, arms answer and scorers judge."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

ScorerName: TypeAlias = Literal["oolong", "oolong-real", "pairs", "ruler", "ruler-any", "exact", "list"]


@dataclass(frozen=True, slots=True)
class Item:
    """One question with its exact answer.

    Attributes:
        id: unique, and the same whenever it is generated with the same arguments.
        task: ``family/source/kind``, for instance ``oolong/spam/counting/MOST_FREQ``.
        length: the nominal length of the context in tokens.
        question: enough on its own for a model that has ``context`` apart.
        context: the text that the question is about.
        gold: the right answers as text. ``pairs``, ``ruler`` and ``list`` want all of them; of the others any one will do.
        scorer: how a reply is judged, see ``rlm_evals.scorers``.
        answer_type: for ``oolong``: LABEL, COMPARISON, NUMERIC, USER, DATE or MONTH_YEAR.
        preamble: what stands before the context in a direct call, where the benchmark has it.
        labels: the true label of every text in the context that has one; for the reference leaf, and to measure real ones.
    """

    id: str
    task: str
    length: int
    question: str
    context: str = field(repr=False)
    gold: tuple[str, ...] = field(repr=False)
    scorer: ScorerName
    answer_type: str = ""
    preamble: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def direct_prompt(self) -> str:
        """The whole as one message, for a model without a REPL: the data first, the question after it."""
        return "\n\n".join(part for part in (self.preamble, self.context, self.question) if part)


def rng_for(*parts: object) -> random.Random:
    """A generator that depends on the names of what is drawn, and on nothing else: not on order, process or hash seed."""
    return random.Random("/".join(map(str, parts)))  # noqa: S311  reproducible, not secret
