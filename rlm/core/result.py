"""The result of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rlm.core.budget import LimitUse
from rlm.core.cells import PlainValue
from rlm.core.corpus import Corpus
from rlm.core.events import Status
from rlm.core.evidence import Citation, Coverage, measure_coverage
from rlm.core.foreign_names import FOREIGN_RESULTS, missing_attribute
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.plain_repr import plain_repr, plain_text
from rlm.core.redaction import SECRETS
from rlm.core.result_card import render_card
from rlm.core.result_dict import describe_result
from rlm.core.tree import CallRecord, NodeRecord, Unfinished
from rlm.core.usage import UsageReport
from rlm.core.values import frozen

MAX_SHOWN_CHARS = 200
"""Characters of the answer in ``repr(result)``."""

if TYPE_CHECKING:  # ``typing`` has defaults of type variables from Python 3.13 on
    from typing_extensions import TypeVar as DefaultTypeVar

    T_co = DefaultTypeVar("T_co", covariant=True, default=Any)
else:
    T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class CoverageOfRun:
    """The sources of a run and the texts that models were shown. Coverage is measured when it is first read."""

    corpus: Corpus
    shown: Sequence[str] = field(repr=False)

    @cached_property
    def value(self) -> Coverage:
        return measure_coverage(self.corpus.texts, self.shown)


@frozen
class Result(Generic[T_co]):
    """A run's answer and its cost.

    Attributes:
        answer: text, or plain data if the model answered with a value; None if the status has no answer. For a question with
            ``schema=T`` it is an instance of ``T``.
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
        data: the answer as plain data, as it is stored.
    """

    answer: T_co
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
    data: PlainValue = field(default=None, repr=False, compare=False)
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

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """Every model call of the run in the order of their starts, at all depths, superseded ones included."""
        nodes = [] if self.tree is None else self.tree.walk()
        return tuple(sorted((call for node in nodes for call in node.calls), key=lambda call: call.started_s))

    def summary(self) -> str:
        """One line with status, calls, cost and time, for instance ``complete, 12 calls, $0.0031, 4.2 s``."""
        limit = f" (limit met: {self.limit})" if self.limit else ""
        calls = self.usage.total.usage.calls
        cost = "cost unknown" if self.cost_usd is None else f"${self.cost_usd:.4f}"
        return f"{self.status}{limit}, {calls:,} {'call' if calls == 1 else 'calls'}, {cost}, {self.elapsed_s:.1f} s"

    def to_dict(self) -> dict[str, JsonValue]:
        """The result as JSON data, with the keys of ``rlm ask --json``. The tree is not part of it."""
        return describe_result(self)

    def __repr__(self) -> str:
        answer = plain_repr(self.answer)
        shown = answer if len(answer) <= MAX_SHOWN_CHARS else f"{answer[:MAX_SHOWN_CHARS]}..."
        return SECRETS.redact_text(f"<Result {shown}: {self.summary()}, run {self.run_id}>".replace("\n", " "))

    def _repr_html_(self) -> str:
        """The card that notebooks show."""
        return render_card(self)

    if not TYPE_CHECKING:  # type checkers report unknown attributes themselves

        def __getattr__(self, name: str) -> object:
            raise missing_attribute("Result", name, FOREIGN_RESULTS)

    def __str__(self) -> str:
        return plain_text(self.answer)
