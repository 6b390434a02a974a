"""How events get from the engine to a view: appended on the engine's thread, looked at on a thread of the view's own.

``emit`` is one append, so a view can be as slow as a terminal is and the run does not notice. It knows nothing of what
a view shows.
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
    """A run's own time between its events: seconds since it began, without those when no process executed it."""

    def __init__(self) -> None:
        self._began_s: float | None = None

    def note(self, event: AnyEvent) -> None:
        if self._began_s is None or isinstance(event, RunResumed):
            self._began_s = time.monotonic() - event.at_s

    def now(self) -> float:
        return 0.0 if self._began_s is None else time.monotonic() - self._began_s


class ThreadedView(ABC):
    """A sink that is also a context manager: watches while its block runs, shows the end when it closes."""

    def __init__(self, refresh_s: float) -> None:
        self._refresh_s = refresh_s
        self._arrived: deque[AnyEvent] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rlm-view", daemon=True)
        self._gone = False

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
        self._guarded(last=True)

    @abstractmethod
    def show(self, events: list[AnyEvent], *, last: bool) -> None:
        """Takes in what happened since the last look and draws it. ``last``: the final call, on the closing thread."""

    def _watch(self) -> None:
        while not self._stop.wait(self._refresh_s):
            self._guarded(last=False)

    def _guarded(self, *, last: bool) -> None:
        """Shows, unless the terminal has gone: a view that nobody can see must not end the run."""
        arrived = self._arrived
        events = [arrived.popleft() for _ in range(len(arrived))]
        if self._gone:
            return
        try:
            self.show(events, last=last)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self._gone = True
