"""A protocol session over a socket on the event loop. It never blocks on a write, and never stops reading."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from rlm.core.errors import SandboxError
from rlm.sandbox.messages import SessionEvent
from rlm.sandbox.protocol import Session

READ_BYTES = 32 * 1024  # one buffer for each transport: a new one for each read costs more than the read


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

    def __init__(self, session: Session) -> None:
        self.session = session
        self._events: deque[SessionEvent] = deque()
        self._failure: BaseException | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport
        self._listener: Listener | None = None
        self._read = memoryview(bytearray(READ_BYTES))

    @classmethod
    async def connect(cls, sock: socket.socket, session: Session) -> WorkerTransport:
        loop = asyncio.get_running_loop()
        _, transport = await loop.create_unix_connection(lambda: cls(session), sock=sock)
        return transport

    def send(self, frames: Iterable[bytes]) -> None:
        """Writes small messages. The transport buffers what the worker does not read yet."""
        for frame in frames:
            self._transport.write(frame)

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
        if self._failure is None:
            self._failure = error
            if self._listener is not None:
                self._listener.on_failure(error)
        self._wake()

    async def aclose(self) -> None:
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
        try:
            events = self.session.receive(bytes(self._read[:nbytes]))
        except SandboxError as error:
            self.fail(error)
            self._transport.abort()
            return
        if self._listener is None:  # in these states the session allows at most one event
            self._events.extend(events)
            self._wake()
            return
        for event in events:
            self._listener.on_event(event)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(WorkerGone())
        self.resume_writing()
        if not self._closed.done():
            self._closed.set_result(None)
