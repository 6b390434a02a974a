"""Tells every event of a run to its sinks, in order, and keeps the folds that its result is made of."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rlm.core.events import AnyEvent, CallBilled, CallReplied
from rlm.core.ids import RunId
from rlm.core.tree import TreeBuilder
from rlm.core.usage import UsageReport, add_call
from rlm.ports import Clock, Sink

logger = logging.getLogger(__name__)


class Recorder:
    """One for each run. ``at_s`` is the time of events: seconds since the run began."""

    def __init__(self, run: RunId, clock: Clock, sinks: Sequence[Sink]) -> None:
        self.run = run
        self._clock = clock
        self._began = clock.now()
        self._sinks = list(sinks)
        self._tree = TreeBuilder()
        self.usage = UsageReport()

    @property
    def at_s(self) -> float:
        return self._clock.now() - self._began

    @property
    def tree(self) -> TreeBuilder:
        return self._tree

    def emit(self, event: AnyEvent) -> None:
        """A sink that raises is left out from then on: a broken view must not end a run that is being paid for."""
        self._tree.add(event)
        if isinstance(event, CallReplied | CallBilled):
            self.usage = add_call(self.usage, event)
        for sink in list(self._sinks):
            try:
                sink.emit(event)
            except Exception:
                logger.exception("a sink failed and gets no more events: %r", sink)
                self._sinks.remove(sink)
