"""Virtual time: an event loop whose time jumps to the next timer as soon as no callback is ready.

A test that waits an hour takes a millisecond and always ends the same way. Everything that asks the loop for the time follows:
``loop.time()``, ``asyncio.sleep``, ``asyncio.timeout``, ``loop.call_later``. The loop asks its selector to wait exactly when no
callback is ready, so that is the moment to advance the clock.

Real sockets and processes are served, but virtual time does not wait for them. While one is awaited and any timer is set, the
timer fires first. Tests of real I/O belong on the real clock.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class VirtualClock:
    """A clock owned by a test. ``VirtualClock().run(main())`` runs a coroutine under it and returns its result.

    Timers with the same deadline fire in the order in which they were set.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = start_s

    def now(self) -> float:
        """Virtual seconds, equal to ``loop.time()`` inside ``run``."""
        return self._now

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on a new event loop under this clock."""
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)

    def _advance(self, seconds: float) -> None:
        self._now += seconds


class _Deadline(float):
    """The time of a timer. Timers with the same time are ordered by ``number``."""

    __slots__ = ("number",)
    number: int

    def __lt__(self, other: float) -> bool:
        if isinstance(other, _Deadline) and self == other:
            return self.number < other.number
        return super().__lt__(other)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self._virtual_clock = clock
        self._timers_set = 0
        super().__init__(_AdvancingSelector(clock))

    def time(self) -> float:
        return self._virtual_clock.now()

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._timers_set += 1
        deadline = _Deadline(when)
        deadline.number = self._timers_set
        return super().call_at(deadline, callback, *args, context=context)


class _AdvancingSelector(selectors.BaseSelector):
    """The platform's selector, except that a wait with a timeout advances the clock instead of waiting."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._real.select(None)  # no timer is set: only a socket or another thread can wake the loop
        ready = self._real.select(0)
        if not ready and timeout > 0:
            self._clock._advance(timeout)
        return ready

    def register(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: FileDescriptorLike, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
