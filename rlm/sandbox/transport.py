"""A protocol session over a socket on the event loop. It never blocks on a write.

It stops reading while it decodes a large message in steps, and while the worker has used its share of the event loop. It also
stops while the run has used its share of the host's memory. The worker then waits in its own write to the socket. Every pause
ends without the worker, so a worker that never reads cannot prolong it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from time import perf_counter
from typing import Literal, Protocol, TypeAlias

from rlm.core.errors import ProtocolViolationError, SandboxError
from rlm.sandbox.loop_share import LoopShare, StepQueue, TooSlow, Work, take_slice
from rlm.sandbox.memory.host_bytes import RunBytes
from rlm.sandbox.messages import Called, SessionEvent
from rlm.sandbox.protocol import Session
from rlm.sandbox.worker.wire.frames import Message

LARGE_BYTES = 8 * 1024 * 1024  # an incomplete message; a run receives a few larger ones at a time
MANY_FRAMES = 8  # in one read; fewer cost less than the read itself
OTHER_SHARE, OTHER_BURST_S = 0.1, 0.02  # loop time for messages that are not sub-calls
MAX_UNREAD_BYTES = 256 * 1024 * 1024  # answers that the worker does not read: 2,048 of 100 KB fit

READ_BYTES = 32 * 1024  # one buffer for each transport: a new one for each read costs more than the read


Hold: TypeAlias = Literal["decoding", "share", "memory", "receiving", "refusals"]
"""A reason not to read."""


class WorkerGone(Exception):
    """The worker's end of the socket is closed. Handled within this package."""


class Listener(Protocol):
    """Receives the worker's events as they arrive.

    A direct call saves an iteration of the event loop, which costs as much as the rest of a sub-call.
    """

    def on_event(self, event: SessionEvent) -> None: ...

    def on_failure(self, error: BaseException) -> None: ...


class WorkerTransport(asyncio.BufferedProtocol):
    """The connection to one worker. Created by ``connect``."""

    def __init__(self, session: Session, queue: StepQueue, account: RunBytes) -> None:
        self.session = session
        self.account = account
        self._receives_large = False
        self._queue = queue
        self._inbox: deque[Message] = deque()
        self._work: Work | None = None
        self._decodes_last = False
        self._gone_meanwhile: WorkerGone | None = None
        self._holds: set[Hold] = set()
        self._share = LoopShare(OTHER_SHARE, OTHER_BURST_S)
        self._events: deque[SessionEvent] = deque()
        self._failure: BaseException | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport
        self._listener: Listener | None = None
        self._read = memoryview(bytearray(READ_BYTES))

    @classmethod
    async def connect(
        cls, sock: socket.socket, session: Session, queue: StepQueue, account: RunBytes
    ) -> WorkerTransport:
        loop = asyncio.get_running_loop()
        _, transport = await loop.create_unix_connection(lambda: cls(session, queue, account), sock=sock)
        return transport

    @property
    def decoding_last(self) -> bool:
        """True while the worker's last message, the end of its cell or a value, is decoded: it has done its part."""
        return self._work is not None and self._decodes_last

    def hold(self, reason: Hold) -> None:
        """Stops reading until ``release`` with the same reason."""
        if not self._holds:
            self._transport.pause_reading()
        self._holds.add(reason)

    def release(self, reason: Hold) -> None:
        """Reads again, unless there is another reason not to."""
        if reason in self._holds:
            self._holds.discard(reason)
            if not self._holds:
                self._transport.resume_reading()

    def send(self, frames: Iterable[bytes]) -> None:
        """Writes small messages. The transport buffers what the worker does not read yet."""
        for frame in frames:
            self._transport.write(frame)
        if self._transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self._violate(ProtocolViolationError("a worker does not read its answers"))

    async def send_large(self, frames: Iterable[bytes]) -> None:
        """Writes frame by frame, at the worker's pace. Raises WorkerGone."""
        for frame in frames:
            self._raise_failure()
            self._transport.write(frame)
            if self._writable is not None:
                await self._writable
        self._raise_failure()

    async def next_event(self) -> SessionEvent:
        """Waits for the worker's next event.

        Raises:
            WorkerGone: the worker sends nothing more.
            ProtocolViolationError: the worker broke the protocol.
        """
        while not self._events:
            self._raise_failure()
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._events.popleft()

    def listen(self, listener: Listener | None) -> None:
        """Sends further events to a listener, or to ``next_event`` if it is None. Raises an earlier failure."""
        self._listener = listener
        if listener is not None:
            self._raise_failure()

    def fail(self, error: BaseException) -> None:
        """Ends the stream of events with an error. Only the first call counts."""
        if self.decoding_last and isinstance(error, WorkerGone):
            self._gone_meanwhile = error
            return
        self._drop_work()
        if self._failure is None:
            self._failure = error
            if self._listener is not None:
                self._listener.on_failure(error)
        self._wake()

    async def aclose(self) -> None:
        self._drop_work()
        self._transport.abort()
        await asyncio.shield(self._closed)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._read

    def buffer_updated(self, nbytes: int) -> None:
        started = perf_counter()
        try:
            self._inbox.extend(self.session.feed(bytes(self._read[:nbytes])))
        except SandboxError as error:
            self._violate(error)
            return
        self._limit_large_message()
        if self._accept_messages() or self.session.frames < MANY_FRAMES:
            return
        now = perf_counter()
        pause_s = self._share.spend(now - started, now)
        if pause_s:
            self.hold("share")
            asyncio.get_running_loop().call_later(pause_s, self.release, "share")

    def _limit_large_message(self) -> None:
        """Waits with a large message until the run receives few enough of them."""
        is_large = self.session.buffered_bytes > LARGE_BYTES
        if is_large == self._receives_large:
            return
        if not is_large:
            self._end_large_message()
        elif self.account.start_receiving():
            self._receives_large = True
            self.release("receiving")
        elif self._failure is None:
            self.hold("receiving")
            self.account.wait_for_room(self._limit_large_message)

    def _end_large_message(self) -> None:
        if self._receives_large:
            self._receives_large = False
            self.account.end_receiving()

    def _accept_messages(self) -> bool:
        """Accepts the messages that have arrived. Returns True if there were sub-calls among them."""
        called = False
        while self._inbox and self._work is None and self._failure is None:
            message = self._inbox.popleft()
            steps = self.session.accept(message)
            try:
                take_slice(steps)
            except StopIteration as end:
                called = called or isinstance(end.value, Called)
                self._deliver(end.value)
            except SandboxError as error:
                self._violate(error)
            else:
                self.hold("decoding")
                self._decodes_last = message.type in {"done", "value"}
                self._work = self._queue.add(steps, self._on_accepted)
        return called

    def _on_accepted(self, event: SessionEvent | None, error: BaseException | None) -> None:
        """Continues after a message that was decoded in steps."""
        self._work = None
        if isinstance(error, TooSlow):
            error = ProtocolViolationError(f"a message of a worker takes too long to decode: {error}")
        if error is not None:
            self._violate(error)
            return
        assert event is not None
        self._deliver(event)
        self._accept_messages()
        if self._work is None:
            self.release("decoding")
            gone, self._gone_meanwhile = self._gone_meanwhile, None
            if gone is not None:
                self.fail(gone)

    def _deliver(self, event: SessionEvent) -> None:
        if self._listener is not None:
            self._listener.on_event(event)
        else:  # in these states the session allows at most one event
            self._events.append(event)
            self._wake()

    def _violate(self, error: BaseException) -> None:
        self.fail(error)
        self._transport.abort()

    def _drop_work(self) -> None:
        self._inbox.clear()
        if self._work is not None:
            self._work.cancelled = True
            self._work = None

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(WorkerGone())
        self._end_large_message()
        self.resume_writing()
        if not self._closed.done():
            self._closed.set_result(None)
