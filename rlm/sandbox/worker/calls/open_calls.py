"""Bookkeeping of sub-calls: open, queued and answered. Thread-safe; it never blocks.

A ``Job`` is up to 64 prompts that travel in one frame. A ``Group`` is the unit that one caller waits for: a single call or a
whole batch. At most ``window`` calls are open at the host, and further jobs queue here. A batch is fed only as room appears,
so that a generator of 100,000 prompts is never held in memory.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ..boot import determinism
from ..boot.determinism import cell_clock
from ..failures import LLMQueryError, failure_of
from ..sigint_guard import SigintGuard
from ..wire.frames import Message, WireError, encode_text
from ..wire.pieces import check_size
from ..wire.values import load
from .waiters import Waiter, has_threads

FRAME_CALLS = 64
FRAME_BYTES = 8 * 1024 * 1024

Outcome: TypeAlias = object
"""An answer, or the LLMQueryError or ToolError in its place."""

SubcallKind: TypeAlias = Literal["model", "budget", "tool"]
"""The tag of a sub-call on the wire."""

Payload: TypeAlias = tuple[str, bytes]
"""A value as encoded by ``values.dump``."""

TURN_S = (
    0.1  # switch interval during hand-over: on a busy machine a resumed thread keeps the interpreter until it waits
)
EARLY_SLEEP_S, EARLY_TRIES = 0.0002, 2500  # a caller starts to wait within microseconds, on a busy machine much later

CELL_ENDED = "CellEnded"
ENDED = "the cell ended before this call was answered; wait for a call in the cell that makes it"
NO_CELL = "no cell is running: a thread or task left over from an earlier cell cannot make calls"


@dataclass(slots=True, eq=False)
class Group:
    """The calls that one caller waits for.

    Attributes:
        ahead: True for prefetched calls that no caller waits for yet (see ``lookahead.prefetch``).
        fed: no more jobs will be added.
        taken: the caller has seen that the group is complete.
    """

    batch: int | None = None
    ahead: bool = False
    results: dict[int, Outcome] = field(default_factory=dict)
    open: int = 0
    fed: bool = False
    taken: bool = False
    waiter: Waiter | None = None

    @property
    def complete(self) -> bool:
        return self.fed and not self.open


class NotYetWaiting:
    """Stands for a caller whose answer arrived between its request and its wait."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._given_up = False

    @property
    def gone(self) -> bool:
        return self._group.taken or self._given_up

    def wake(self) -> None:
        """Does nothing, because the caller is awake."""

    def hand_over(self) -> bool:
        """Lets the caller run, without the interpreter's lock."""
        for _ in range(EARLY_TRIES):
            if self._group.taken:
                break
            determinism.real_sleep(EARLY_SLEEP_S)
        self._given_up = True
        return True


@dataclass(slots=True, eq=False)
class Job:
    """Prompts ``first`` to ``first + len(prompts) - 1`` of a group, or one other sub-call in the place of a prompt.

    ``contexts`` is empty, holds one context for all prompts, or one for each. It holds the arguments of a call of ``tool``.
    """

    group: Group
    first: int
    prompts: list[bytes]
    options: bytes = b""
    contexts: Sequence[Payload] = ()
    kind: SubcallKind = "model"
    tool: str = ""


def encode_prompt(prompt: str) -> bytes:
    """Encodes a prompt. Raises TooLarge."""
    text = str.__str__(prompt)
    check_size(len(text))
    data = encode_text(text)
    check_size(len(data))
    return data


class Calls:
    def __init__(self, send: Callable[[dict[str, object], bytes], None], guard: SigintGuard) -> None:
        self._send = send
        self._guard = guard
        self._lock = threading.Lock()
        self._active = False
        self._next_id = 1
        self._open: dict[int, tuple[Group, int, int]] = {}  # with the cell's time when it was sent
        self._queue: deque[Job] = deque()
        self._awaiting_room: list[Group] = []
        self._abandoned: deque[Group] = deque()
        self._arrived: deque[tuple[int, object, bytes | bytearray, float]] = deque()
        self._resuming: Waiter | None = None  # the caller woken last, which resumes before any other
        self._batches = 0
        self.window = 1

    def begin(self) -> None:
        """Starts a cell: calls are allowed."""
        self._active = True

    def end(self) -> int:
        """Ends the cell: callers that still wait get an error. Returns the number of unanswered calls."""
        with self._guard, self._lock:
            self._drop_abandoned()
            self._active = False
            left = [(group, index) for group, index, _ in self._open.values()]
            left += [(job.group, job.first + i) for job in self._queue for i in range(len(job.prompts))]
            self._open.clear()
            self._arrived.clear()
            self._resuming = None
            self._queue.clear()
            for group, index in left:
                group.results[index] = LLMQueryError(ENDED, CELL_ENDED)
                group.open -= 1
            for group in {group for group, _ in left} | set(self._awaiting_room):
                self._wake(group)
            self._awaiting_room.clear()
            return len(left)

    def number_batch(self) -> int:
        with self._guard, self._lock:
            self._batches += 1
            return self._batches

    @property
    def has_room(self) -> bool:
        """True if a batch should add more prompts now, also once no cell runs, because it then gets an error."""
        return not self._active or not self._is_full()

    def room(self) -> int:
        """Number of prompts that a batch can add now: at least 1, so that every batch gets its turn in the queue."""
        return max(1, min(FRAME_CALLS, self.window - len(self._open) - len(self._queue)))

    def start(self, job: Job) -> None:
        """Sends a job, or queues it until there is room.

        Raises:
            LLMQueryError: no cell is running.
        """
        with self._guard, self._lock:
            if not self._active:
                raise LLMQueryError(NO_CELL, "NoCell")
            self._drop_abandoned()
            job.group.open += len(job.prompts)
            if self._queue or not self._fits(job):
                self._queue.append(job)
            else:
                self._send_job(job)

    def park(self, group: Group, waiter: Waiter) -> bool:
        """Registers the waiter to wake once the group is complete or has room for more prompts.

        Returns False, and registers nothing, if that is the case already.
        """
        with self._guard, self._lock:
            if group.complete or not (group.fed or self._is_full()) or not self._active:
                return False
            group.waiter = waiter
            if not group.fed:
                self._awaiting_room.append(group)
            return True

    def abandon(self, group: Group) -> None:
        """Abandons a group: cancels its open calls at the host, and drops its queued ones.

        A coroutine without references is closed in any thread that collects it, even while this thread holds our lock. So the
        group is only noted here. The next thread that works with the calls drops it.
        """
        self._abandoned.append(group)
        if not self._guard.entered:
            with self._guard, self._lock:
                self._drop_abandoned()

    def _drop_abandoned(self) -> None:
        while self._abandoned:
            group = self._abandoned.popleft()
            group.fed, group.waiter = True, None
            self._queue = deque(job for job in self._queue if job.group is not group)
            numbers = [number for number, (owner, _, _) in self._open.items() if owner is group]
            for number in numbers:
                del self._open[number]
            if self._active:
                for start in range(0, len(numbers), 1000):
                    self._send({"t": "cancel", "calls": numbers[start : start + 1000]}, b"")
                self._send_queued()

    def on_reply(self, message: Message) -> None:
        """Handles the answers of one frame. ``items`` lists call, kind, length and seconds; the payloads follow each other."""
        start = 0
        for number, kind, length, *elapsed in message.header["items"]:  # type: ignore[attr-defined]
            self._arrived.append((number, kind, message.body[start : start + length], sum(elapsed)))
            start += length
        self.deliver()

    def deliver(self) -> bool:
        """Delivers answers in order. Stops at one for the calling thread, which resumes; the next reader delivers more.

        Called by the worker's own code, under the guard. Returns True if answers are left.
        """
        if not self._arrived:
            return False
        if has_threads():
            sys.setswitchinterval(TURN_S)
        while True:
            with self._lock:
                if self._resuming is not None and not self._resuming.gone:
                    return bool(self._arrived)
                self._drop_abandoned()
                self._resuming = self._deliver_some()
                if not self._arrived:
                    self._send_queued()
            if self._resuming is None or not self._resuming.hand_over():
                return bool(self._arrived)

    def _deliver_some(self) -> Waiter | None:
        """Delivers answers up to the first that wakes a caller; returns its waiter."""
        while self._arrived:
            number, kind, payload, elapsed = self._arrived.popleft()
            call = self._open.pop(number, None)
            if call is None:
                continue
            group, index, started_ns = call
            cell_clock.advance_since(started_ns, elapsed)
            group.results[index] = _decode_outcome(kind, payload)
            group.open -= 1
            if group.complete and (group.waiter or not group.ahead):
                waiter = group.waiter or NotYetWaiting(group)
                self._wake(group)
                return waiter
        return None

    def _send_queued(self) -> None:
        while self._queue and self._fits(self._queue[0]):
            self._send_job(self._queue.popleft())
        if self._awaiting_room and not self._is_full():
            for group in self._awaiting_room:
                self._wake(group)
            self._awaiting_room.clear()

    def _fits(self, job: Job) -> bool:
        return len(self._open) + len(job.prompts) <= self.window

    def _is_full(self) -> bool:
        """True if a batch should wait, because frames of a few prompts each cost more than they gain."""
        step = min(FRAME_CALLS, max(1, self.window // 4))
        return bool(self._queue) or self.window - len(self._open) < step

    def _send_job(self, job: Job) -> None:
        body = b"".join([job.options, *(payload for _, payload in job.contexts), *job.prompts])
        first = self._next_id
        self._next_id += len(job.prompts)
        for offset in range(len(job.prompts)):
            self._open[first + offset] = (job.group, job.first + offset, cell_clock.now_ns)
        header: dict[str, object] = {"t": "call", "kind": job.kind, "first": first}
        if job.kind == "model":
            _describe_prompts(header, job)
        elif job.kind == "tool":
            header["tool"], header["as"] = job.tool, job.contexts[0][0]
        try:
            self._send(header, body)
        except MemoryError:  # nothing was sent
            for number in range(first, self._next_id):
                del self._open[number]
            self._next_id = first
            raise

    @staticmethod
    def _wake(group: Group) -> None:
        waiter, group.waiter = group.waiter, None
        if waiter is not None:
            waiter.wake()


def _describe_prompts(header: dict[str, object], job: Job) -> None:
    header["prompts"] = [len(prompt) for prompt in job.prompts]
    if job.options:
        header["options"] = len(job.options)
    if job.contexts:
        header["contexts"] = [[kind, len(payload)] for kind, payload in job.contexts]
    if job.group.batch is not None:
        header["batch"] = job.group.batch
    if job.group.ahead:
        header["ahead"] = True


def _decode_outcome(kind: object, payload: bytes | bytearray) -> Outcome:
    if kind == "f":
        name, message = load("j", payload)
        return failure_of(name, message)
    try:
        return load(kind, payload, trusted=True)
    except WireError as error:
        return LLMQueryError(f"the answer could not be read: {error}", "MalformedReplyError")
