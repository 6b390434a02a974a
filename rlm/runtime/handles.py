"""The handle of a run: its result, its events, and the means to stop it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import CancelledError
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic

from rlm.core.errors import ConfigurationError, RLMError
from rlm.core.events import AnyEvent
from rlm.core.ids import RunId
from rlm.core.result import Result, T_co
from rlm.engine.run import Run
from rlm.runtime.loop import BACKGROUND


class RunHandle(Generic[T_co]):
    """A started run: ``run.result()``, ``await run``, ``async for event in run``, ``run.finish()``, ``run.cancel()``.

    Its methods can be called from any thread, and awaited on any event loop. Cancelling a task that awaits the run cancels the
    run, and so does leaving a loop over its events early.
    """

    def __init__(self, run: Run, log: EventLog) -> None:
        """``log`` is one of the run's sinks."""
        self._run = run
        self._log = log
        self._work = BACKGROUND.start(run.answer())
        self._future = self._work.future
        self._future.add_done_callback(log.end)

    def wait_ended(self) -> None:
        """Waits until nothing of the run is left. Its future is done earlier if it was cancelled."""
        self._work.wait_ended()

    def result(self, timeout_s: float | None = None) -> Result[T_co]:
        """Waits for the result. Ctrl-C does not stop the run.

        Raises:
            RLMError: there is no answer; RunCancelledError after ``cancel``.
            TimeoutError: the run has not ended within ``timeout_s``; it continues.
        """
        return BACKGROUND.result(self._future, timeout_s)

    def outcome(self) -> Result[T_co] | None:
        """Waits for the end of the run, and raises nothing: the result, also of a failed or cancelled run, or None."""
        try:
            return BACKGROUND.result(self._future, None)
        except (RLMError, CancelledError) as error:
            return getattr(error, "result", None)

    def __await__(self) -> Generator[None, None, Result[T_co]]:
        return self._work.join().__await__()

    async def events(self) -> AsyncGenerator[AnyEvent, None]:
        """The events of the run in order, from its first one.

        Raises:
            RLMError: after the last event, if there is no answer.
        """
        try:
            async for event in self._log.read():
                yield event
            await self._work.join()
        finally:
            self._future.cancel()

    def __aiter__(self) -> AsyncIterator[AnyEvent]:
        return self.events()

    @property
    def run_id(self) -> RunId:
        return self._run.id

    @property
    def done(self) -> bool:
        return self._future.done()

    def finish(self) -> None:
        """Ends calls, cells and children at once; the root answers in one last turn with what the run has.

        The result is partial, its limit ``"stopped"``. If the root has not replied yet, the run is cancelled.
        """
        BACKGROUND.call(self._run.finish)

    def cancel(self) -> None:
        """Stops the run: its cells, calls and children end within a second, and nothing more is spent."""
        BACKGROUND.call(self._run.cancel)


class Stream(Generic[T_co]):
    """A run that starts with the loop over its events: ``async for event in stream``, then ``stream.result``.

    ``RLM.start`` returns the same run as a handle.
    """

    def __init__(self, start: Callable[[], RunHandle[T_co]]) -> None:
        self._start = start
        self._result: Result[T_co] | None = None

    @property
    def result(self) -> Result[T_co]:
        """The result of the run.

        Raises:
            ConfigurationError: the run has not ended.
        """
        if self._result is None:
            raise ConfigurationError("`Stream.result` is available after the loop over the events has ended.")
        return self._result

    async def __aiter__(self) -> AsyncIterator[AnyEvent]:
        run = self._start()
        async with aclosing(run.events()) as events:
            async for event in events:
                yield event
        self._result = run.result()


class EventLog:
    """A sink that retains the events of one run for readers on other event loops."""

    def __init__(self) -> None:
        self._events: list[AnyEvent] = []
        self._ended = False
        self._readers: set[_Reader] = set()

    def emit(self, event: AnyEvent) -> None:
        self._events.append(event)
        if self._readers:
            self._wake()

    def end(self, _: object) -> None:
        """Ends all readers after the last event."""
        self._ended = True
        self._wake()

    async def read(self) -> AsyncIterator[AnyEvent]:
        """All events, from the first one to the end of the run."""
        reader, position = _Reader(asyncio.get_running_loop()), 0
        self._readers.add(reader)
        try:
            while True:
                # Before the check, so that an event between check and wait wakes this reader.
                reader.arm()
                ended = self._ended
                if position == len(self._events):
                    if ended:
                        return
                    await reader.more.wait()
                while position < len(self._events):
                    yield self._events[position]
                    position += 1
        finally:
            self._readers.discard(reader)

    def _wake(self) -> None:
        for reader in tuple(self._readers):
            reader.wake()


@dataclass(eq=False, slots=True)
class _Reader:
    """One loop over events. Events that arrive while it is busy wake it once."""

    loop: asyncio.AbstractEventLoop
    more: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: bool = False

    def arm(self) -> None:
        self.more.clear()
        self.waiting = True

    def wake(self) -> None:
        if self.waiting and not self.loop.is_closed():
            self.waiting = False
            self.loop.call_soon_threadsafe(self.more.set)
