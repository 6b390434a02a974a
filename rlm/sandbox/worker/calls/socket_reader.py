"""The worker's end of the socket, shared by all its threads without a thread of its own.

Whichever thread waits for something reads for all: one leads and polls the socket, the others sleep until a frame for them
was read or the lead falls to them; event loops watch the socket themselves. So a worker whose cell starts no threads has
exactly one, and may fork. It must not know what messages mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import sys
import threading
from collections.abc import Callable
from time import monotonic

from ..sigint_guard import SigintGuard
from ..wire.frames import Decoder, Message, WireError, pack_message
from .waiters import ThreadWaiter, has_threads

# For a buffer of 128 KB or more the C library maps memory anew, which costs more than the reading.
READ_BYTES = 64 * 1024
TURN_S = sys.getswitchinterval()
QUICK_S = 0.0002  # an answer that comes so soon is not slept for: to be woken takes longer than the rest of a call
LOST_S, SLEEPS = 0.00015, 64  # so long, somebody else had the processor; so many waits are slept through then
LEFT_S = 0.001  # after which a loop looks again whether the one that was woken has gone on
LEADER_POLL_MS = 50  # how often a leader looks up when another thread's event loop may have read its reply
FOLLOWER_SLEEP_S = 0.1  # how late the main thread may notice a SIGINT while another thread leads


class SocketReader:
    """Sends messages from any thread, and hands what arrives to ``on_message``. First of all, ``connect``."""

    def __init__(self, guard: SigintGuard, on_message: Callable[[Message], None]) -> None:
        self.guard = guard
        self._sock: socket.socket
        self._pid = 0
        self._on_message = on_message
        self.deliver: Callable[[], bool] = lambda: False  # hands out what was read; True where something is left
        self._decoder = Decoder()
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._roles = threading.Lock()
        self._leader: ThreadWaiter | None = None
        self._followers: set[ThreadWaiter] = set()
        self._watched: dict[asyncio.AbstractEventLoop, int] = {}
        self._poll = select.poll()
        self._on_other: Callable[[], None] | None = None
        self._quick = 0  # answers in a row that came at once; less than 0: so many must, before one is waited for awake

    def connect(self, sock: socket.socket) -> None:
        """The socket to the host, for this process alone and none that it forks."""
        self._sock = sock
        self._pid = os.getpid()
        self._poll.register(sock, select.POLLIN)
        self._quick = 0

    def disconnect(self) -> None:
        self._poll.unregister(self._sock)

    def attach(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Has one more descriptor watched by whoever waits."""
        self._poll.register(fd, select.POLLIN)
        self._on_other = on_readable

    def detach(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._on_other = None

    def send(self, header: dict[str, object], body: bytes = b"") -> None:
        """Blocks until the host took it; the host always reads. For code of ours, guarded already."""
        with self._sending:
            if os.getpid() != self._pid:
                return  # a copy that the cell forked: the socket belongs to the original
            try:
                for frame in pack_message(header, body):
                    self._sock.sendall(frame)
            except OSError:
                os._exit(0)

    def wait(self, waiter: ThreadWaiter, *, idle: bool = False) -> None:
        """Blocks this thread until the waiter was woken. ``idle``: no cell runs that a SIGINT could mean.

        Raises:
            CellInterrupted: in the main thread, when the host stops the cell.
        """
        with self.guard:
            try:
                while not waiter.done:
                    if idle:
                        self.guard.pending = False
                    self.guard.check()
                    self._wait_once(waiter)
            finally:
                self._leave(waiter)
                waiter.notice()

    def wait_briefly(self, waiter: ThreadWaiter, timeout_ms: int) -> None:
        """As ``wait``, at most so long, and for the main thread when it is alone."""
        with self.guard:
            self.guard.check()
            if not waiter.done:
                self.guard.poll(self._listen, timeout_ms)
                self.read()

    def _listen(self, timeout_ms: int | None) -> None:
        """Waits for something to read: awake for a moment where the last answer came in less, as answers from a cache do.

        But not while others want the processor: who sleeps gets it back sooner than who gave way.
        """
        began = now = monotonic()
        while self._quick > 0 and now - began < QUICK_S:
            if self._poll.poll(0):
                return
            before = now
            os.sched_yield()
            now = monotonic()
            if now - before > LOST_S:
                self._quick = -SLEEPS
        self._poll.poll(timeout_ms)
        self._quick = self._quick + 1 if monotonic() - began < QUICK_S else min(self._quick, 0)

    def _wait_once(self, waiter: ThreadWaiter) -> None:
        with self._roles:
            if self._leader is None:
                self._leader = waiter
                self._followers.discard(waiter)
            elif self._leader is not waiter:
                self._followers.add(waiter)
        if self._leader is not waiter:
            waiter.sleep(FOLLOWER_SLEEP_S)
            return
        self.deliver()
        if waiter.done:
            return
        sys.setswitchinterval(TURN_S)  # nobody is being handed the interpreter any more
        self.guard.poll(self._listen, LEADER_POLL_MS if has_threads() else None)
        self.read()
        if self._on_other is not None:
            self._on_other()

    def _leave(self, waiter: ThreadWaiter) -> None:
        """This thread waits no more: another leads."""
        with self._roles:
            self._followers.discard(waiter)
            if self._leader is waiter:
                self._leader = None
            elif self._leader is not None:
                return
            if self._followers:
                next(iter(self._followers)).nudge()
            elif self._watched:  # no thread waits any more: a loop has to see to what is left
                loop = next(iter(self._watched))
                with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                    loop.call_soon_threadsafe(self._deliver_on, loop)

    def _deliver_on(self, loop: asyncio.AbstractEventLoop) -> None:
        with self.guard:
            if self.deliver():
                loop.call_later(LEFT_S, self._deliver_on, loop)

    def read(self) -> None:
        """Takes what has arrived, without waiting."""
        with self.guard, self._reading:
            if os.getpid() != self._pid:
                os._exit(0)
            while True:
                try:
                    data = self._sock.recv(READ_BYTES, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return
                except OSError:
                    data = b""
                if not data:
                    os._exit(0)  # the host is gone, or done with us
                self._take(data)
                if len(data) < READ_BYTES:
                    return

    def _take(self, data: bytes) -> None:
        try:
            messages = self._decoder.feed(data)
        except WireError:
            os._exit(3)
        for message in messages:
            self._on_message(message)

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Lets a running loop read while its coroutines wait; as often as this, ``unwatch`` must follow."""
        count = self._watched.get(loop, 0)
        self._watched[loop] = count + 1
        if not count:
            loop.add_reader(self._sock, self.read)

    def unwatch(self, loop: asyncio.AbstractEventLoop) -> None:
        count = self._watched.pop(loop, 0) - 1
        if count > 0:
            self._watched[loop] = count
        elif not loop.is_closed():
            loop.remove_reader(self._sock)
