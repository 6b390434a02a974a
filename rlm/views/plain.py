"""One plain line per noteworthy thing, for a stderr that is no terminal: a log file, a CI job, a pipe.

Never one line per call: a run may make ten thousand. What repeats is told a few times and then counted.
"""

from __future__ import annotations

import sys
from typing import TextIO

from rlm.core.events import (
    AnyEvent,
    CallFailed,
    CallRetried,
    CellExecuted,
    NodeFinished,
    NodeStarted,
    RunFinished,
    RunResumed,
    RunStarted,
)
from rlm.core.history import NOT_OUTCOMES
from rlm.views.escape import ascii_only, one_line, speaks_unicode
from rlm.views.feed import RunClock, ThreadedView
from rlm.views.layout import describe_calls, describe_spend, describe_step, format_tally, node_name, plural
from rlm.views.progress import Progress

TOLD_TIMES = 5
"""How often each repeating kind of thing is told before it is only counted."""

HEARTBEAT_S = 10.0
"""Silence after which a line says that the run still goes on: short enough for CI jobs that kill what is silent."""

_LOOK_S = 0.1


class Narrator:
    """Turns events into lines. Pure: it is told what happened and the time, and says what is worth a line."""

    def __init__(self) -> None:
        self.progress = Progress()
        self._told: dict[str, int] = {}
        self._spoke_s = 0.0

    def tell(self, event: AnyEvent) -> list[str]:
        """The lines for one event, often none."""
        self.progress.add(event)
        lines = self._lines(event)
        if lines:
            self._spoke_s = event.at_s
        return [f"[{event.at_s:7.1f}s] {line}" for line in lines]

    def heartbeat(self, now_s: float) -> str | None:
        """A line that says how far the run is, when nothing was said for a while."""
        if self.progress.started is None or self.progress.finished or now_s - self._spoke_s < HEARTBEAT_S:
            return None
        self._spoke_s = now_s
        return f"[{now_s:7.1f}s] {self._totals(now_s)}"

    def _totals(self, now_s: float) -> str:
        return f"{describe_calls(self.progress, now_s)} · {describe_spend(self.progress.spend)}"

    def _lines(self, event: AnyEvent) -> list[str]:
        match event:
            case RunStarted():
                models = ", ".join(one_line(model, 60) for model in event.models)
                return [f"run {event.run}: models {models}; depth {event.max_depth}; sandbox {event.sandbox}"]
            case RunResumed():
                return [f"taken up · {self._totals(event.at_s)}"]
            case NodeStarted(depth=depth) if depth > 0:
                return self._few("node", f"node {event.node} started: {one_line(event.question)}")
            case CellExecuted():
                return self._cell(event)
            case CallRetried():
                again = f"again in {event.delay_s:.1f}s"
                return self._few("retry", f"call {event.call} {again}: {one_line(event.reason)}")
            case CallFailed() if event.error in NOT_OUTCOMES:
                return self._few("cut call", f"call {event.call} cut off: {one_line(event.message)}")
            case CallFailed():
                return self._few("failure", f"call {event.call} failed: {event.error}: {one_line(event.message)}")
            case NodeFinished(node=node_id) if (node := self.progress.node(node_id)) and node.depth > 0:
                why = f": {one_line(node.error)}" if node.error else ""
                return self._few(f"{event.status} node", f"node {event.node} {event.status}{why}")
            case RunFinished():
                limit = f" (limit met: {one_line(event.limit, 40)})" if event.limit else ""
                return [f"{event.status}{limit} · {self._totals(event.at_s)}"]
            case _:
                return []

    def _cell(self, event: CellExecuted) -> list[str]:
        node = self.progress.node(event.node)
        step = next((step for step in reversed(node.steps) if step.name == event.cell.name), None) if node else None
        if node is None or step is None:
            return []
        calls = step.tally
        asked = f"; {plural(calls.total, 'sub-call')}: {format_tally(calls)}" if calls.total else ""
        line = f"{node_name(node)} {describe_step(step)}{asked}"
        return [line] if node.depth == 0 else self._few("cell", line)

    def _few(self, kind: str, line: str) -> list[str]:
        told = self._told[kind] = self._told.get(kind, 0) + 1
        if told < TOLD_TIMES:
            return [line]
        return [f"{line} (further lines of this kind are left out)"] if told == TOLD_TIMES else []


class PlainView(ThreadedView):
    """Writes a run's noteworthy lines to ``stream`` (stderr when None) while its ``with`` block is open."""

    def __init__(self, stream: TextIO | None = None, prefix: str = "rlm: ") -> None:
        super().__init__(_LOOK_S)
        self._stream = stream or sys.stderr
        self._prefix = prefix
        self._narrator = Narrator()
        self._clock = RunClock()

    def show(self, events: list[AnyEvent], *, last: bool) -> None:
        lines: list[str] = []
        for event in events:
            self._clock.note(event)
            lines.extend(self._narrator.tell(event))
        beat = None if last else self._narrator.heartbeat(self._clock.now())
        if beat:
            lines.append(beat)
        if lines:
            text = "".join(f"{self._prefix}{line}\n" for line in lines)
            self._stream.write(text if speaks_unicode(getattr(self._stream, "encoding", None)) else ascii_only(text))
            self._stream.flush()
