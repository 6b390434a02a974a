"""Records the events of a run: numbers them, passes them to journal and sinks in order, folds them into the result."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from rlm.core.errors import ConfigurationError, StoreError
from rlm.core.events import AnyEvent, CallBilled, CallFailed, CallReplied, Event, RunFinished, ToolEnded, ToolStarted
from rlm.core.history import History
from rlm.core.ids import NodeId, RunId
from rlm.core.tree_builder import TreeBuilder
from rlm.core.usage import Totals, UsageReport
from rlm.log import get_logger
from rlm.ports import EventCallback, Journal, SinkLike

DURABLE = frozenset({CallReplied, CallFailed, CallBilled, ToolStarted, ToolEnded, RunFinished})
"""Events that must survive the process. All others follow from them when cells are executed again."""

FLUSH_DELAY_S = 0.01  # one write for calls that start together, and less than a request takes to a provider and back

E = TypeVar("E", bound=Event)
logger = get_logger(__name__)


class Recorder:
    """One for each run. ``at_s`` is the time of events: seconds since the run started, without the time between processes."""

    def __init__(
        self,
        run: RunId,
        sinks: Sequence[SinkLike],
        history: History | None = None,
    ) -> None:
        self.run = run
        self._started_at = 0.0  # of the loop's time
        self._sinks = [_emitter(sink) for sink in sinks]
        self.journal: Journal | None = None  # set when the run starts
        self._last_seq = 0
        self._must_flush = False
        self._flushes_soon = False
        self._history = history
        self._tree = TreeBuilder()
        self._totals = Totals()

    @property
    def at_s(self) -> float:
        # Microseconds are enough, and take half the characters in a journal. ``round`` with digits takes four times as long.
        return round((asyncio.get_running_loop().time() - self._started_at) * 1e6) / 1e6

    @property
    def tree(self) -> TreeBuilder:
        return self._tree

    @property
    def usage(self) -> UsageReport:
        """Tokens and money spent so far."""
        return self._totals.report()

    def start(self) -> None:
        """Starts the run's time."""
        self._started_at = asyncio.get_running_loop().time()

    def emit(self, kind: type[E], node: NodeId, **fields: Any) -> E:
        """Records an event that happens now, and returns it.

        A sink that raises gets no more events: a broken view must not end a run that costs money.
        """
        self._last_seq = seq = self._last_seq + 1
        event = kind(run=self.run, node=node, at_s=self.at_s, seq=seq, **fields)
        self._pass_on(event)  # type: ignore[arg-type]  # every kind is in AnyEvent, which a type variable cannot say
        return event

    def flush(self) -> None:
        """Makes every reply emitted so far, and the events before it, survive the end of this process.

        Called before anything acts on a reply, so that no answer is paid for twice. Without a new reply it does nothing.

        Raises:
            StoreError: the journal cannot be written.
        """
        if self.journal is not None and self._must_flush:
            self.journal.flush()
            self._must_flush = False

    def flush_soon(self) -> None:
        """Flushes in a moment whatever is emitted until then: events that must be recorded before anything acts on them.

        Called on the run's loop. An error is raised by the ``flush`` of the next reply.
        """
        if self.journal is not None and not self._flushes_soon:
            self._flushes_soon = True
            asyncio.get_running_loop().call_later(FLUSH_DELAY_S, self._flush_now)

    def _flush_now(self) -> None:
        self._flushes_soon = False
        if self.journal is not None:
            with contextlib.suppress(StoreError):
                self.journal.flush()

    def recall(self, events: Sequence[AnyEvent]) -> None:
        """Continues after the events of an earlier process, which the journal and the history have already."""
        for event in events:
            self._show(event)
        if events:
            self._started_at = asyncio.get_running_loop().time() - events[-1].at_s
            self._last_seq = events[-1].seq

    def _pass_on(self, event: AnyEvent) -> None:
        if self.journal is not None:
            self.journal.append(event)
            if type(event) in DURABLE:
                self._must_flush = True
        if self._history is not None:
            self._history.note(event)
        self._show(event)

    def _show(self, event: AnyEvent) -> None:
        self._tree.add(event)
        self._totals.add(event)
        for emit in tuple(self._sinks):
            try:
                emit(event)
            except (Exception, SystemExit, KeyboardInterrupt):
                logger.exception("a sink failed and gets no more events: %r", emit)
                self._sinks.remove(emit)


def _emitter(sink: SinkLike) -> EventCallback:
    """The function that receives events: a sink's ``emit``, or the plain callable itself."""
    if callable(sink):
        return sink
    emit = getattr(sink, "emit", None)
    if not callable(emit):
        raise ConfigurationError(f"a sink must be a function, or have a method `emit`; got {type(sink).__name__}.")
    return cast("EventCallback", emit)
