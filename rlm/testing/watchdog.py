"""A watchdog that measures the longest stall of the running event loop."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType

TICK_S = 0.001


class LoopWatchdog:
    """Context manager, inside a running loop: the longest time between two turns of the loop.

    Attributes:
        longest_s: in wall time. A busy machine adds to it.
        longest_cpu_s: in processor time of this process, all threads together: work that held up the loop, also by a thread
            that kept the interpreter's lock. A busy machine adds little to it.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.longest_cpu_s = 0.0
        self._at_s = self._cpu_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> LoopWatchdog:
        self._at_s, self._cpu_s = time.perf_counter(), time.process_time()
        self._schedule()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._timer is not None
        self._timer.cancel()
        self._measure()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._measure()
        self._schedule()

    def _measure(self) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        self.longest_s = max(self.longest_s, now - self._at_s - TICK_S)
        self.longest_cpu_s = max(self.longest_cpu_s, cpu - self._cpu_s)
        self._at_s, self._cpu_s = now, cpu
