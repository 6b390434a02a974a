"""Separates the worker's own code from a cell's code in each thread.

A SIGINT must not interrupt the worker in the middle of a frame. ``SigintGuard`` counts how deep a thread is in the worker's
own code. The signal handler raises in a cell's code only, and defers the signal otherwise. Finalizers of a cell's objects run
anywhere, even while the worker holds a lock. The same count identifies their output and their calls.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType

from .failures import CellInterrupted


class SigintGuard:
    """Marks the worker's own code: defers SIGINT in the main thread, and is visible to finalizers. Reentrant."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._depth = 1  # the worker's own loop; a cell's code runs at 0
        self._others: dict[int, int] = {}  # depth of the other threads; each writes its own
        self._polling = False
        self.pending = False

    @property
    def entered(self) -> bool:
        """True while this thread runs the worker's own code. A cell's code sees this only in finalizers and signal handlers."""
        thread = threading.get_ident()
        return self._depth > 0 if thread == self._main else thread in self._others

    def install(self) -> None:
        signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._depth and not self._polling:
            self.pending = True
        else:
            raise CellInterrupted

    def __enter__(self) -> None:
        thread = threading.get_ident()
        if thread == self._main:
            self._depth += 1
        else:
            self._others[thread] = self._others.get(thread, 0) + 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        thread = threading.get_ident()
        if thread == self._main:
            self._depth -= 1
            if not self._depth:
                self.check()
        elif self._others[thread] == 1:
            del self._others[thread]
        else:
            self._others[thread] -= 1

    @contextlib.contextmanager
    def parsing(self) -> Iterator[None]:
        """Disables garbage collection while ``ast`` works.

        In CPython 3.11 parsing fails if a collection runs finalizers that parse, as tracebacks do.
        """
        with self:
            collects = gc.isenabled()
            gc.disable()
            try:
                yield
            finally:
                if collects:
                    gc.enable()

    def check(self) -> None:
        """Raises a deferred SIGINT."""
        if self.pending and threading.get_ident() == self._main:
            self.pending = False
            raise CellInterrupted

    def release(self) -> None:
        """Marks the start of a cell's code in the main thread. Raises a SIGINT that arrived since the cell did."""
        self._depth = 0
        self.check()

    def hold(self) -> None:
        """Marks the start of the worker's own code in the main thread."""
        self._depth = 1

    def poll(self, poll: Callable[[int | None], object], timeout_ms: int | None) -> None:
        """Waits in ``poll``, the only place in the worker's own code that a SIGINT interrupts at once."""
        if threading.get_ident() != self._main:
            poll(timeout_ms)
            return
        try:
            self._polling = True  # between this store and the next the handler raises, always inside this try
            if not self.pending:
                poll(timeout_ms)
            self._polling = False
        except CellInterrupted:
            self._polling = False
            self.pending = True
