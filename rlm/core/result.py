"""What a run gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rlm.core.budget import LimitUse
from rlm.core.cells import PlainValue
from rlm.core.events import Status
from rlm.core.ids import RunId
from rlm.core.tree import NodeRecord, Unfinished
from rlm.core.usage import UsageReport


@dataclass(frozen=True, slots=True)
class Result:
    """A run's answer and what it took.

    Attributes:
        answer: text, or plain data where the model answered with a value; None where the status has no answer.
        status: "complete"; "partial" when a limit (named by ``limit``) was met and this is the answer from what was there.
        usage: tokens and money, in total, by model and by depth.
        run_id: names the run in events and journals.
        tree: the root node with everything below it; None where the run failed before its root began.
        elapsed_s: wall time of the whole run.
        sandbox: the isolation level its cells ran under.
        limit: which limit was met, for a partial result.
        error: for a failed run, the error in one line.
        used: by limit (``usd``, ``tokens``, ``calls``, ``seconds``), how much was used, allowed and left.
        unfinished: what was cut off or refused; empty counts where nothing was.
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

    @property
    def cost_usd(self) -> float | None:
        """Dollars spent, or None where a call has no known price."""
        total = self.usage.total
        return None if total.unpriced_calls else total.cost_usd

    def __str__(self) -> str:
        return self.answer if isinstance(self.answer, str) else repr(self.answer)
