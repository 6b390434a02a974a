"""Evaluation items: one question over one context, with its gold answer."""

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
        id: unique, and identical whenever it is generated with the same arguments.
        task: ``family/source/kind``, for instance ``oolong/spam/counting/MOST_FREQ``.
        length: the nominal length of the context in tokens.
        question: self-contained text for a model that holds ``context`` separately.
        context: the text to answer from.
        gold: the correct answers as text. ``pairs``, ``ruler`` and ``list`` require all of them, the others any one.
        scorer: the scoring rule, see ``rlm_evals.scorers``.
        answer_type: for ``oolong``: LABEL, COMPARISON, NUMERIC, USER, DATE or MONTH_YEAR.
        preamble: the benchmark's text before the context in a direct call, if it has one.
        labels: the true label of each labelled text in the context, for the reference leaf and for label accuracy.
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
        """One message for a model without a REPL: the data first, then the question."""
        return "\n\n".join(part for part in (self.preamble, self.context, self.question) if part)


def rng_for(*parts: object) -> random.Random:
    """Random generator seeded by names alone, independent of order, process and hash seed."""
    return random.Random("/".join(map(str, parts)))  # noqa: S311  reproducible, not secret
