"""A run under way, as its caller holds it: a handle to wait for it or stop it, a stream of its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future

from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError
from rlm.core.events import AnyEvent
from rlm.core.ids import RunId
from rlm.core.result import Result
from rlm.engine.run import Run
from rlm.ports import Sink
from rlm.runtime.loop import BACKGROUND


class RunHandle:
    """A run under way. Its methods may be called from any thread."""

    def __init__(self, run: Run, query: str, context: PlainValue) -> None:
        self._run = run
        self._future = BACKGROUND.submit(run.answer(query, context))

    def result(self, timeout_s: float | None = None) -> Result:
        """Waits for the run's end.

        Raises:
            RLMError: there is no answer; RunCancelledError after ``cancel``.
            TimeoutError: it has not ended within ``timeout_s``. It goes on.
        """
        return BACKGROUND.result(self._future, timeout_s)

    @property
    def run_id(self) -> RunId:
        return self._run.id

    @property
    def done(self) -> bool:
        return self._future.done()

    def finish(self) -> None:
        """Has the run answer with what it has: calls, cells and children end at once, and the root gets its last turn.

        The result is partial, its limit ``"stopped"``. A run whose root has not replied yet has nothing to answer from; it is
        cancelled.
        """
        BACKGROUND.call(self._run.finish)

    def cancel(self) -> None:
        """Stops the run: its cells, calls and children end within a second, nothing more is spent."""
        BACKGROUND.call(self._run.cancel)


class Stream:
    """The events of one run, in order, for one ``async for`` loop. Leaving the loop early cancels the run.

    ``result`` is there once the loop has ended; a run without an answer raises its error from the loop, after its last event.
    """

    def __init__(self, start: Callable[[Sink], Future[Result]]) -> None:
        self._start = start
        self._result: Result | None = None

    @property
    def result(self) -> Result:
        """What the run gave.

        Raises:
            ConfigurationError: the run has not ended.
        """
        if self._result is None:
            raise ConfigurationError("Stream.result is there when the loop over its events has ended.")
        return self._result

    async def __aiter__(self) -> AsyncIterator[AnyEvent]:
        sink = _QueueSink(asyncio.get_running_loop())
        future = self._start(sink)
        future.add_done_callback(sink.end)
        try:
            while (event := await sink.queue.get()) is not None:
                yield event
            self._result = await asyncio.wrap_future(future)
        finally:
            future.cancel()


class _QueueSink:
    """Hands events over from the engine's thread to another loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.queue: asyncio.Queue[AnyEvent | None] = asyncio.Queue()

    def emit(self, event: AnyEvent) -> None:
        self._put(event)

    def end(self, _: object) -> None:
        self._put(None)

    def _put(self, item: AnyEvent | None) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.queue.put_nowait, item)
