"""Plain lines about a run, for a stderr that goes to a log file, a CI job or a pipe.

There is never one line per call: a run can make ten thousand. Repeated kinds of lines are written a few times, then counted.
"""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallRetried,
    CellExecuted,
    NodeFinished,
    NodeQueued,
    NodeStarted,
    RunFinished,
    RunResumed,
    RunStarted,
    ToolEnded,
)
from rlm.core.history import NOT_OUTCOMES
from rlm.views.escape import ascii_only, one_line, speaks_unicode
from rlm.views.feed import RunClock, ThreadedView
from rlm.views.formatting import describe_calls, describe_cell, describe_spend, describe_subcalls, node_name
from rlm.views.progress import Progress

MAX_REPEATS = 5
"""Lines of one repeating kind before it is only counted."""

HEARTBEAT_S = 10.0
"""Silence before a line says that the run goes on: shorter than the silence after which CI jobs are killed."""

_REFRESH_S = 0.1


class Narrator:
    """Turns events into lines. Pure: it gets events and the time, and returns the lines that they are worth."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._written: dict[str, int] = {}
        self._last_line_s = 0.0

    def narrate(self, event: AnyEvent) -> list[str]:
        """The lines for one event, often none."""
        self.progress.add(event)
        lines = self._lines(event)
        if lines:
            self._last_line_s = event.at_s
        return [f"[{event.at_s:7.1f}s] {line}" for line in lines]

    def heartbeat(self, now_s: float) -> str | None:
        """A line with the totals of the run, after a silence."""
        if self.progress.started is None or self.progress.finished or now_s - self._last_line_s < HEARTBEAT_S:
            return None
        self._last_line_s = now_s
        return f"[{now_s:7.1f}s] {self._totals(now_s)}"

    def _totals(self, now_s: float) -> str:
        return f"{describe_calls(self.progress, now_s)} · {describe_spend(self.progress.spend)}"

    def _lines(self, event: AnyEvent) -> list[str]:
        match event:
            case RunStarted():
                models = ", ".join(one_line(model, 60) for model in event.models)
                return [f"run {event.run}: models {models}; depth {event.max_depth}; sandbox {event.sandbox}"]
            case RunResumed():
                return [f"resumed · {self._totals(event.at_s)}"]
            case NodeStarted(depth=depth) if depth > 0:
                return self._few("node", f"node {event.node} started: {one_line(event.question)}")
            case NodeQueued():
                return self._few("queued node", f"node {event.node} waits for memory, place {event.place:,}")
            case CellExecuted():
                return self._cell(event)
            case CallRetried():
                line = f"call {event.call} retries in {event.delay_s:.1f}s: {one_line(event.reason)}"
                return self._few("retry", line)
            case CallFailed() if event.error in NOT_OUTCOMES:
                return self._few("cancelled call", f"call {event.call} cancelled: {one_line(event.message)}")
            case CallFailed():
                return self._few("failure", f"call {event.call} failed: {event.error}: {one_line(event.message)}")
            case ToolEnded() if event.interrupted or event.failure is not None:
                message = event.failure.message if event.failure is not None else ""
                how = "interrupted, its effect is unknown" if event.interrupted else "failed"
                return self._few(f"tool {how}", f"tool call {event.call} {how}: {one_line(message)}")
            case NodeFinished(node=node_id) if (node := self.progress.node(node_id)) and node.depth > 0:
                error = f": {one_line(node.error)}" if node.error else ""
                return self._few(f"{event.status} node", f"node {event.node} {event.status}{error}")
            case RunFinished():
                limit = f" (limit met: {one_line(event.limit, 40)})" if event.limit else ""
                return [f"{event.status}{limit} · {self._totals(event.at_s)}"]
            case _:
                return []

    def _cell(self, event: CellExecuted) -> list[str]:
        node = self.progress.node(event.node)
        if node is None:
            return []
        cell = node.cell(event.cell.name, event.at_s)
        subcalls = f"; {describe_subcalls(cell.tally)}" if cell.tally.total else ""
        line = f"{node_name(node)} {describe_cell(cell)}{subcalls}"
        return [line] if node.depth == 0 else self._few("cell", line)

    def _few(self, kind: str, line: str) -> list[str]:
        count = self._written[kind] = self._written.get(kind, 0) + 1
        if count < MAX_REPEATS:
            return [line]
        return [f"{line} (further lines of this kind are left out)"] if count == MAX_REPEATS else []


class PlainView(ThreadedView):
    """Writes lines about a run to ``stream`` (stderr if None) while its ``with`` block is open."""

    def __init__(self, stream: TextIO | None = None, prefix: str = "rlm: ") -> None:
        super().__init__(_REFRESH_S)
        self._stream = stream or sys.stderr
        self._prefix = prefix
        self._narrator = Narrator()
        self._clock = RunClock()

    def show(self, events: list[AnyEvent], *, last: bool) -> None:
        lines: list[str] = []
        for event in events:
            self._clock.note(event)
            lines.extend(self._narrator.narrate(event))
        heartbeat = None if last else self._narrator.heartbeat(self._clock.now())
        if heartbeat:
            lines.append(heartbeat)
        if lines:
            text = "".join(f"{self._prefix}{line}\n" for line in lines)
            self._stream.write(text if speaks_unicode(getattr(self._stream, "encoding", None)) else ascii_only(text))
            self._stream.flush()


class PlainSink:
    """A sink that writes lines about one run to stderr. It opens its view with the first event and closes it after the last."""

    def __init__(self) -> None:
        self._view: PlainView | None = None

    def emit(self, event: AnyEvent) -> None:
        if self._view is None:
            self._view = PlainView().__enter__()
        self._view.emit(event)
        if isinstance(event, RunFinished):
            # In a thread: the last lines are written while it closes, and a terminal can block.
            threading.Thread(target=self._view.__exit__, args=(None, None, None), name="rlm-view-end").start()
