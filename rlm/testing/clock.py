"""Virtual time: an event loop whose clock jumps to the next deadline as soon as nothing else is left to do.

A test that waits an hour takes a millisecond and always ends the same way. It works through the two seams that asyncio
leaves open, ``loop.time()`` and the selector: the loop asks the selector to wait exactly when no callback is ready, so
that is the moment to move the clock. ``asyncio.sleep``, ``asyncio.timeout`` and timers all follow.

Real sockets and processes are served, but time does not wait for them: while one is awaited and any timer is set, the
timer fires first. Tests of real input and output belong on the real clock.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")


class VirtualClock:
    """A ``Clock`` that tests own. ``VirtualClock().run(main())`` runs a coroutine under it and returns its result.

    Sleepers with the same deadline wake in the order in which they fell asleep.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._now = start_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._slept = 0

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Sleeps in virtual time.

        Raises:
            RuntimeError: outside ``run``: another loop would never move this clock.
        """
        loop = asyncio.get_running_loop()
        if not isinstance(loop, _VirtualLoop) or loop.clock is not self:
            raise RuntimeError(
                "this VirtualClock moves only under its own loop: start the coroutine with clock.run(...)"
            )
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        deadline = self._now + seconds
        woken = loop.create_future()
        self._slept += 1
        heapq.heappush(self._sleepers, (deadline, self._slept, woken))
        timer = loop.call_at(deadline, self._wake, deadline)
        try:
            await woken
        finally:
            timer.cancel()

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end on a fresh loop under this clock."""
        with asyncio.Runner(loop_factory=lambda: _VirtualLoop(self)) as runner:
            return runner.run(main)

    def _wake(self, deadline: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= deadline:
            _, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        return self.clock.now()


class _JumpingSelector(selectors.BaseSelector):
    """The platform's selector, except that a wait with a deadline moves the clock there instead of waiting."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return self._real.select(None)  # no timer at all: only the outside world can go on
        ready = self._real.select(0)
        if not ready and timeout > 0:
            self._clock._jump(timeout)
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
