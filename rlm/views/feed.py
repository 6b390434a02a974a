"""Passes events from the engine to a view: appended on the engine's thread, shown on a thread of the view.

``emit`` is one append, so a slow terminal does not slow the run. It knows nothing of the content of views.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from types import TracebackType
from typing import Self

from rlm.core.events import AnyEvent, RunResumed


class RunClock:
    """The time of a run between its events: seconds since its start, without those when no process executed it."""

    def __init__(self) -> None:
        self._start_s: float | None = None

    def note(self, event: AnyEvent) -> None:
        if self._start_s is None or isinstance(event, RunResumed):
            self._start_s = time.monotonic() - event.at_s

    def now(self) -> float:
        return 0.0 if self._start_s is None else time.monotonic() - self._start_s


class ThreadedView(ABC):
    """A sink and context manager: shows the run while its block is open, and the end when it closes."""

    def __init__(self, refresh_s: float) -> None:
        self._refresh_s = refresh_s
        self._arrived: deque[AnyEvent] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rlm-view", daemon=True)
        self._closed = False

    def emit(self, event: AnyEvent) -> None:
        self._arrived.append(event)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._show_safely(last=True)

    @abstractmethod
    def show(self, events: list[AnyEvent], *, last: bool) -> None:
        """Folds the events since the last call and draws the result. ``last``: the final call, on the closing thread."""

    def _watch(self) -> None:
        while not self._stop.wait(self._refresh_s):
            self._show_safely(last=False)

    def _show_safely(self, *, last: bool) -> None:
        """Shows new events unless the terminal is closed: a view that cannot be seen must not end the run."""
        arrived = self._arrived
        events = [arrived.popleft() for _ in range(len(arrived))]
        if self._closed:
            return
        try:
            self.show(events, last=last)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._closed = True
