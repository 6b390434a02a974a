"""Tells every event of a run to its journal and its sinks, in order, and keeps the folds that its result is made of."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rlm.core.events import AnyEvent
from rlm.core.history import History
from rlm.core.ids import RunId
from rlm.core.tree import TreeBuilder
from rlm.core.usage import Totals, UsageReport
from rlm.ports import Clock, Journal, Sink

logger = logging.getLogger(__name__)


class Recorder:
    """One for each run. ``at_s`` is the time of events: seconds since the run began, times without a process left out."""

    def __init__(
        self,
        run: RunId,
        clock: Clock,
        sinks: Sequence[Sink],
        journal: Journal | None = None,
        history: History | None = None,
    ) -> None:
        self.run = run
        self._clock = clock
        self._began = clock.now()
        self._sinks = tuple(sinks)
        self._journal = journal
        self._history = history
        self._tree = TreeBuilder()
        self._totals = Totals()

    @property
    def at_s(self) -> float:
        return self._clock.now() - self._began

    @property
    def tree(self) -> TreeBuilder:
        return self._tree

    @property
    def usage(self) -> UsageReport:
        """What was paid so far."""
        return self._totals.report()

    def emit(self, event: AnyEvent) -> None:
        """A sink that raises is left out from then on: a broken view must not end a run that is being paid for."""
        if self._journal is not None:
            self._journal.append(event)
        if self._history is not None:
            self._history.note(event)
        self._show(event)

    async def written(self) -> None:
        """Waits for the journal: what follows may rely on everything emitted so far.

        Raises:
            StoreError: when it cannot be kept.
        """
        if self._journal is not None:
            await self._journal.written()

    def recall(self, events: Sequence[AnyEvent]) -> None:
        """Takes up what an earlier process did: the journal and the history have it already."""
        for event in events:
            self._show(event)
        if events:
            self._began = self._clock.now() - events[-1].at_s

    def _show(self, event: AnyEvent) -> None:
        self._tree.add(event)
        self._totals.add(event)
        for sink in self._sinks:
            try:
                sink.emit(event)
            except Exception:
                logger.exception("a sink failed and gets no more events: %r", sink)
                self._sinks = tuple(other for other in self._sinks if other is not sink)
