"""Tells every event of a run to its journal and its sinks, in order, and keeps the folds that its result is made of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from rlm.core.errors import StoreError
from rlm.core.events import AnyEvent, CallBilled, CallFailed, CallReplied, RunFinished
from rlm.core.history import History
from rlm.core.ids import RunId
from rlm.core.tree_builder import TreeBuilder
from rlm.core.usage import Totals, UsageReport
from rlm.ports import Journal, Sink

MUST_LAST = frozenset({CallReplied, CallFailed, CallBilled, RunFinished})
SOON_S = 0.01  # one write for calls that begin together, and less than a request takes to a provider and back

logger = logging.getLogger(__name__)


class Recorder:
    """One for each run. ``at_s`` is the time of events: seconds since the run began, times without a process left out."""

    def __init__(
        self,
        run: RunId,
        sinks: Sequence[Sink],
        history: History | None = None,
    ) -> None:
        self.run = run
        self._started_at = 0.0  # of the loop's time
        self._sinks = tuple(sinks)
        self.journal: Journal | None = None  # set when the run begins
        self._must_keep = False
        self._keeps_soon = False
        self._history = history
        self._tree = TreeBuilder()
        self._totals = Totals()

    @property
    def at_s(self) -> float:
        return asyncio.get_running_loop().time() - self._started_at

    @property
    def tree(self) -> TreeBuilder:
        return self._tree

    @property
    def usage(self) -> UsageReport:
        """What was paid so far."""
        return self._totals.report()

    def start(self) -> None:
        """Start the run's time."""
        self._started_at = asyncio.get_running_loop().time()

    def emit(self, event: AnyEvent) -> None:
        """A sink that raises is left out from then on: a broken view must not end a run that is being paid for."""
        if self.journal is not None:
            self.journal.append(event)
            if type(event) in MUST_LAST:
                self._must_keep = True
        if self._history is not None:
            self._history.note(event)
        self._show(event)

    def keep(self) -> None:
        """Makes every reply emitted so far, and what came before it, survive the end of this process. To be called before anybody
        acts on a reply, so that what was answered is never paid for again. Where there is none, there is nothing to do: whatever
        else was emitted comes of what is kept, when it is executed again.

        Raises:
            StoreError: it cannot be kept.
        """
        if self.journal is not None and self._must_keep:
            self.journal.keep()
            self._must_keep = False

    def keep_soon(self) -> None:
        """Has everything emitted until then kept in a moment: for what must be on record and nobody acts on.

        To be called on the run's loop. What goes wrong is told by the ``keep`` of the next reply.
        """
        if self.journal is not None and not self._keeps_soon:
            self._keeps_soon = True
            asyncio.get_running_loop().call_later(SOON_S, self._keep_now)

    def _keep_now(self) -> None:
        self._keeps_soon = False
        if self.journal is not None:
            with contextlib.suppress(StoreError):
                self.journal.keep()

    def recall(self, events: Sequence[AnyEvent]) -> None:
        """Takes up what an earlier process did: the journal and the history have it already."""
        for event in events:
            self._show(event)
        if events:
            self._started_at = asyncio.get_running_loop().time() - events[-1].at_s

    def _show(self, event: AnyEvent) -> None:
        self._tree.add(event)
        self._totals.add(event)
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception:
                logger.exception("a sink failed and gets no more events: %r", sink)
                self._sinks = tuple(other for other in self._sinks if other is not sink)
