"""Prefetching: while the REPL waits for an answer, a lookahead copy finds its next sub-calls, which are sent ahead of time.

Prefetched calls are stored by their content. When the REPL reaches such a call, it is open or answered already. A batch is
prefetched as a whole. Results in the REPL never depend on prefetching, which only changes the time at which calls are sent.

At most one copy exists at a time, and only while a plain cell runs in the main thread without other threads or event loops.
A copy that found nothing makes further copies rarer within the cell.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ..calls.open_calls import FRAME_CALLS, Calls, Group, Job
from ..calls.socket_reader import SocketReader
from ..calls.waiters import ThreadWaiter, has_threads
from ..wire.frames import PREFIX
from . import copies
from .copies import Copy
from .eligibility import asks_once

PATIENCE_MS = 2  # an answer that arrives sooner is not worth a copy
MAX_SKIPS = 64
READ_BYTES = 64 * 1024  # see socket_reader


def key_of(job: Job, *, is_batch: bool) -> bytes:
    """The content of a single call or a whole batch as bytes, equal for equal requests."""
    pieces = [*job.prompts, job.options]
    for kind, payload in job.contexts:
        pieces += [kind.encode(), payload]
    head = PREFIX.pack(len(job.prompts), is_batch)
    return head + b"".join(PREFIX.pack(len(piece), 0) + piece for piece in pieces)


def job_of(key: bytes, number_batch: Callable[[], int]) -> Job:
    count, is_batch = PREFIX.unpack_from(key)
    pieces: list[bytes] = []
    at = PREFIX.size
    while at < len(key):
        length, _ = PREFIX.unpack_from(key, at)
        at += PREFIX.size + length
        pieces.append(key[at - length : at])
    contexts = [(pieces[i].decode(), pieces[i + 1]) for i in range(count + 1, len(pieces), 2)]
    group = Group(number_batch() if is_batch else None, ahead=True, fed=True)
    return Job(group, 0, pieces[:count], pieces[count], contexts)


def calls_in(key: bytes) -> int:
    count: int = PREFIX.unpack_from(key)[0]
    return count


class Prefetcher:
    """Forks lookahead copies and stores prefetched calls. ``mute`` silences a copy.

    Attributes:
        ahead: number of calls that can be sent before the REPL reaches them; 0 turns prefetching off.
        copy: in a copy, its end of the socket; None in the REPL itself.
        used: number of prefetched calls that the cell has reached.
    """

    def __init__(self, calls: Calls, reader: SocketReader, namespace: dict[str, Any], mute: Callable[[], None]) -> None:
        self._calls = calls
        self._reader = reader
        self._namespace = namespace
        self._mute = mute
        self.ahead = 0
        self.copy: Copy | None = None
        self.used = 0
        self._prefetched: dict[bytes, deque[Group]] = {}
        self._overtaken: Counter[bytes] = Counter()  # calls that the REPL made before the copy reached them
        self._pid = 0
        self._sock: socket.socket | None = None
        self._buffer = bytearray()
        self._has_forked = False
        self._allowed = True
        self._code: str | None = None  # the cell's code, until it was parsed
        self._used_at_fork = self._penalty = self._skips = 0

    def begin(self, code: str, *, allowed: bool = True) -> None:
        """Starts a cell. Prefetching is not allowed in a cell executed again: it has its answers, and its clock must not vary."""
        self._allowed, self._code = allowed, code
        self.used = self._used_at_fork = self._penalty = self._skips = 0
        self._has_forked = False

    def end(self) -> None:
        """Ends the cell: withdraws unused prefetches."""
        self._end_copy()
        for groups in self._prefetched.values():
            for group in groups:
                self._calls.abandon(group)
        self._prefetched.clear()
        self._overtaken.clear()

    @property
    def limit(self) -> int:
        """Largest batch that is prefetched as a whole; 0 while prefetching is off."""
        return min(self.ahead, FRAME_CALLS) if self._is_alone() else 0

    def take(self, job: Job, *, is_batch: bool = False) -> Group | None:
        """The prefetched call or batch for this job; None if there is none."""
        if not self.ahead or not (self._prefetched or self._sock):
            return None
        self._receive()
        key = key_of(job, is_batch=is_batch)
        groups = self._prefetched.get(key)
        if not groups:
            if self._prefetched:  # the copy took another path
                self._end_copy()
            elif self._sock is not None:
                self._overtaken[key] += 1
            return None
        group = groups.popleft()
        if not groups:
            del self._prefetched[key]
        self.used += len(job.prompts)
        self._give_room(len(job.prompts))
        return group

    def fork(self, waiter: ThreadWaiter) -> bool:
        """Forks a copy if that is allowed and promising. Returns True in the copy.

        ``waiter`` belongs to the call that the REPL waits for. Nothing is forked if its answer arrives at once.
        """
        if not self._may_fork():
            return False
        self._reader.wait_briefly(waiter, PATIENCE_MS)
        if waiter.done or self._asks_once():
            return False
        with self._reader.guard:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                pid = copies.fork()
            except OSError:
                self.ahead = 0
                ours.close()
                theirs.close()
                return False
            if pid == 0:
                self._mute()
                self.copy = copies.become_copy(theirs, self.ahead, self._namespace)
                return True
            theirs.close()
            self._pid, self._sock = pid, ours
            self._buffer.clear()
            self._overtaken.clear()
            self._reader.attach(ours.fileno(), self._receive)
        self._has_forked, self._used_at_fork = True, self.used
        return False

    def _is_alone(self) -> bool:
        """True without other threads and event loops, so that the code alone decides its next steps."""
        return (
            self.ahead > 0
            and self._allowed
            and threading.get_ident() == threading.main_thread().ident
            and not has_threads()
            and asyncio._get_running_loop() is None
        )

    def _may_fork(self) -> bool:
        if self._sock is not None or not self._is_alone():
            return False
        if self._has_forked:  # adapt to the gain of the last copy
            self._has_forked = False
            gained = self.used > self._used_at_fork
            self._penalty = 0 if gained else min(MAX_SKIPS, 2 * self._penalty or 1)
            self._skips = self._penalty
        if self._skips:
            self._skips -= 1
            return False
        return True

    def _asks_once(self) -> bool:
        """True if a copy could find nothing. Computed while the cell waits anyway."""
        if self._code is not None:
            with self._reader.guard.parsing():
                self._allowed, self._code = not asks_once(self._code), None
        return not self._allowed

    def _receive(self) -> None:
        """Reads the copy's prompts and sends them as calls."""
        sock = self._sock
        while sock is not None and self._sock is sock:
            try:
                data = sock.recv(READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._end_copy()
                return
            self._buffer += data
            self._ask_ahead()

    def _ask_ahead(self) -> None:
        buffer = self._buffer
        while len(buffer) >= PREFIX.size:
            length, _ = PREFIX.unpack_from(buffer)
            end = PREFIX.size + length
            if len(buffer) < end:
                return
            key = bytes(buffer[PREFIX.size : end])
            del buffer[:end]
            if self._overtaken[key]:
                self._overtaken[key] -= 1
                self._give_room(calls_in(key))
                continue
            job = job_of(key, self._calls.number_batch)
            self._calls.start(job)
            self._prefetched.setdefault(key, deque()).append(job.group)

    def _give_room(self, calls: int) -> None:
        if self._sock is not None:
            try:
                self._sock.send(b"+" * calls, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except OSError:  # it has ended
                return

    def _end_copy(self) -> None:
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._reader.detach(sock.fileno())
        sock.close()
        try:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):  # the cell itself waited for it
            return
