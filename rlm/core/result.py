"""The result of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property

from rlm.core.budget import LimitUse
from rlm.core.cells import PlainValue
from rlm.core.corpus import Corpus
from rlm.core.events import Status
from rlm.core.evidence import Citation, Coverage, measure_coverage
from rlm.core.ids import RunId
from rlm.core.redaction import SECRETS
from rlm.core.tree import NodeRecord, Unfinished
from rlm.core.usage import UsageReport
from rlm.core.values import frozen


@dataclass(frozen=True)
class CoverageOfRun:
    """The sources of a run and the texts that models were shown. Coverage is measured when it is first read."""

    corpus: Corpus
    shown: Sequence[str] = field(repr=False)

    @cached_property
    def value(self) -> Coverage:
        return measure_coverage(self.corpus.texts, self.shown)


@frozen
class Result:
    """A run's answer and its cost.

    Attributes:
        answer: text, or plain data if the model answered with a value; None if the status has no answer.
        status: "complete", or "partial" if a limit was met and the answer is from the work done until then. A "failed" or
            "cancelled" run has no answer.
        usage: tokens and money, in total, by model and by depth.
        run_id: names the run in events and journals.
        tree: the root node with everything below it; None if the run failed before its root started.
        elapsed_s: wall time of the whole run.
        sandbox: the isolation level of its cells.
        limit: the limit that was met, for a partial result.
        error: for a failed run, the error in one line.
        used: by limit (``usd``, ``tokens``, ``calls``, ``seconds``), how much was used, allowed and left.
        unfinished: the work that was cut off or refused.
        citations: quotes given with the answer, each with its place in the sources.
    """

    answer: PlainValue
    status: Status
    usage: UsageReport
    run_id: RunId
    tree: NodeRecord | None
    elapsed_s: float
    sandbox: str
    limit: str | None = None
    error: str | None = None
    used: Mapping[str, LimitUse] = field(default_factory=dict)
    unfinished: Unfinished = Unfinished()
    citations: tuple[Citation, ...] = ()
    measurement: CoverageOfRun | None = field(default=None, repr=False, compare=False)

    @property
    def coverage(self) -> Coverage | None:
        """The parts of the documents that models were shown; None for a run without documents, unless ``coverage=True``.

        It is measured when it is first read, at about 50 MB a second.
        """
        return None if self.measurement is None else self.measurement.value

    @property
    def cost_usd(self) -> float | None:
        """Dollars spent, or None if a call has no known price."""
        total = self.usage.total
        return None if total.unpriced_calls else total.cost_usd

    def __repr__(self) -> str:
        shown = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
        return SECRETS.redact_text(f"Result({shown})")

    def __str__(self) -> str:
        return self.answer if isinstance(self.answer, str) else repr(self.answer)
