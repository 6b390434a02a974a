"""The worker's end of the socket, shared by all its threads without a reader thread.

A waiting thread reads for all others. One thread leads and polls the socket. The others sleep until a frame for them was
read, or until the lead passes to them. Event loops watch the socket themselves. So a worker whose cell starts no threads has
exactly one, and can fork. This module must not know the meaning of messages.
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

# For a buffer of 128 KB or more the C library maps new memory each time, which costs more than the read.
READ_BYTES = 64 * 1024
TURN_S = sys.getswitchinterval()
QUICK_S = 0.0002  # busy-wait for an answer: waking from sleep takes longer than the rest of a call
LOST_S, SLEEPS = 0.00015, 64  # a longer gap means that another process had the processor; that many waits then sleep
LEFT_S = 0.001  # delay before a loop checks again if the resumed caller has continued
LEADER_POLL_MS = 50  # poll timeout of a leader, because another thread's event loop can have read its reply
FOLLOWER_SLEEP_S = 0.1  # longest delay before the main thread notices a SIGINT while another thread leads


class SocketReader:
    """Sends messages from any thread, and passes received ones to ``on_message``. Call ``connect`` first."""

    def __init__(self, guard: SigintGuard, on_message: Callable[[Message], None]) -> None:
        self.guard = guard
        self._sock: socket.socket
        self._pid = 0
        self._on_message = on_message
        self.deliver: Callable[[], bool] = lambda: False  # delivers received answers; True if some are left
        self._decoder = Decoder()
        self._sending = threading.Lock()
        self._reading = threading.Lock()
        self._roles = threading.Lock()
        self._leader: ThreadWaiter | None = None
        self._followers: set[ThreadWaiter] = set()
        self._watched: dict[asyncio.AbstractEventLoop, int] = {}
        self._poll = select.poll()
        self._on_other: Callable[[], None] | None = None
        self._quick = 0  # answers in a row that came at once; a negative number counts waits left to sleep

    def connect(self, sock: socket.socket) -> None:
        """Connects to the host, for this process but not for its forks."""
        self._sock = sock
        self._pid = os.getpid()
        self._poll.register(sock, select.POLLIN)
        self._quick = 0

    def disconnect(self) -> None:
        self._poll.unregister(self._sock)

    def attach(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Adds a descriptor that waiting threads watch."""
        self._poll.register(fd, select.POLLIN)
        self._on_other = on_readable

    def detach(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._on_other = None

    def send(self, header: dict[str, object], body: bytes = b"") -> None:
        """Sends a message; blocks until it is written. The host always reads. Called under the guard.

        Raises:
            MemoryError: before anything was sent.
        """
        with self._sending:
            if os.getpid() != self._pid:
                return  # a fork made by the cell: the socket belongs to the original
            partly = False
            try:
                for frame in pack_message(header, body):
                    partly = True
                    self._sock.sendall(frame)
            except OSError:
                os._exit(0)
            except MemoryError:
                if partly:
                    os._exit(3)  # half a message cannot be continued
                raise

    def wait(self, waiter: ThreadWaiter, *, idle: bool = False) -> None:
        """Blocks this thread until the waiter is woken. ``idle`` means that no cell runs, so a SIGINT is stale.

        Raises:
            CellInterrupted: in the main thread, if the host stops the cell.
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
        """As ``wait``, but at most for ``timeout_ms``, and only in a main thread without others."""
        with self.guard:
            self.guard.check()
            if not waiter.done:
                self.guard.poll(self._listen, timeout_ms)
                self.read()

    def _listen(self, timeout_ms: int | None) -> None:
        """Waits for data. Busy-waits briefly if the last answer came at once, as answers from a cache do.

        It sleeps if other processes need the processor: a sleeping thread gets it back sooner than one that yielded.
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
        sys.setswitchinterval(TURN_S)  # the interpreter is not being handed over any more
        self.guard.poll(self._listen, LEADER_POLL_MS if has_threads() else None)
        self.read()
        if self._on_other is not None:
            self._on_other()

    def _leave(self, waiter: ThreadWaiter) -> None:
        """Ends this thread's wait, and passes the lead to another."""
        with self._roles:
            self._followers.discard(waiter)
            if self._leader is waiter:
                self._leader = None
            elif self._leader is not None:
                return
            if self._followers:
                next(iter(self._followers)).nudge()
            elif self._watched:  # no thread waits any more, so a loop must deliver the rest
                loop = next(iter(self._watched))
                with contextlib.suppress(RuntimeError):  # it was closed meanwhile
                    loop.call_soon_threadsafe(self._deliver_on, loop)

    def _deliver_on(self, loop: asyncio.AbstractEventLoop) -> None:
        with self.guard:
            if self.deliver():
                loop.call_later(LEFT_S, self._deliver_on, loop)

    def read(self) -> None:
        """Reads everything that has arrived, without waiting."""
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
                    os._exit(0)  # the host is gone, or has closed this REPL
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
        """Lets a running loop read while its coroutines wait. Each call must be matched by ``unwatch``."""
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
