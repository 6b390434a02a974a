"""Marks which code is ours and which is a cell's, in each thread.

A SIGINT must not tear a frame in two. ``SigintGuard`` counts how deep a thread is in code of ours; the handler raises in the
cell's own code only, and is remembered everywhere else. Finalizers of a cell's objects run anywhere, also while a lock of
ours is held: what they print or ask is told apart by the same count.
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
    """Marks code of ours: defers SIGINT in the main thread, and is known to finalizers. A context manager that may nest."""

    def __init__(self) -> None:
        self._main = threading.get_ident()
        self._depth = 1  # the worker's own loop; a cell's code runs at 0
        self._others: dict[int, int] = {}  # depth of the threads that are not the main one; each writes its own
        self._polling = False
        self.pending = False

    @property
    def entered(self) -> bool:
        """Whether this thread is in code of ours. To a cell's code that asks, it is only in finalizers and handlers."""
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
        """For work with ``ast``, which fails (in CPython 3.11) when a collection runs finalizers that parse, as tracebacks do."""
        with self:
            collects = gc.isenabled()
            gc.disable()
            try:
                yield
            finally:
                if collects:
                    gc.enable()

    def check(self) -> None:
        """Raises now what came earlier."""
        if self.pending and threading.get_ident() == self._main:
            self.pending = False
            raise CellInterrupted

    def release(self) -> None:
        """From here on the main thread runs a cell's code. A SIGINT that came since the cell did is raised here."""
        self._depth = 0
        self.check()

    def hold(self) -> None:
        """From here on the main thread runs the worker's own code."""
        self._depth = 1

    def poll(self, poll: Callable[[int | None], object], timeout_ms: int | None) -> None:
        """Waits in ``poll``, the one place of ours that a SIGINT ends at once."""
        if threading.get_ident() != self._main:
            poll(timeout_ms)
            return
        try:
            self._polling = True  # from this store to the next, the handler raises, and always inside this try
            if not self.pending:
                poll(timeout_ms)
            self._polling = False
        except CellInterrupted:
            self._polling = False
            self.pending = True
