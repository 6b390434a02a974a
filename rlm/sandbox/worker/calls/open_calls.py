"""Sub-calls: which are open, which wait for room, whose answer has arrived. Thread-safe; blocks nobody by itself.

A ``Job`` is up to 64 prompts that travel in one frame; a ``Group`` is what one caller waits for, a single call or a whole
batch. At most ``window`` calls are open at the host; jobs beyond that queue here, and a batch is fed only as room appears,
so that a generator of 100,000 prompts is never held as a whole.
"""

from __future__ import annotations

import json
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
from ..wire.values import dump, load
from .waiters import Waiter, has_threads

FRAME_CALLS = 64
FRAME_BYTES = 8 * 1024 * 1024

Outcome: TypeAlias = object
"""An answer, or the LLMQueryError in its place."""

SubcallKind: TypeAlias = Literal["model", "budget"]
"""The tag of a sub-call on the wire."""

Payload: TypeAlias = tuple[str, bytes]
"""A value as ``values.dump`` wrote it."""

TURN_S = 0.1  # a thread that was woken keeps the interpreter so long, on a busy machine: until it waits again, that is
EARLY_SLEEP_S, EARLY_TRIES = 0.0002, 2500  # it comes to its waiting in microseconds, on a busy machine much later

CELL_ENDED = "CellEnded"
ENDED = "the cell ended before this call was answered; wait for a call in the cell that makes it"
NO_CELL = "no cell is running: a thread or task left over from an earlier cell cannot make calls"


@dataclass(slots=True, eq=False)
class Group:
    """What one caller waits for.

    ``fed``: no more jobs will come. ``ahead``: nobody waits for it yet (see ``prefetch``). ``taken``: the caller has seen that
    it is complete.
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
    """Stands for a caller that does not wait yet although its answer is there: it is between asking and waiting."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._given_up = False

    @property
    def gone(self) -> bool:
        return self._group.taken or self._given_up

    def wake(self) -> None:
        """It is awake."""

    def hand_over(self) -> bool:
        """Lets it go on, without the interpreter's lock."""
        for _ in range(EARLY_TRIES):
            if self._group.taken:
                break
            determinism.real_sleep(EARLY_SLEEP_S)
        self._given_up = True
        return True


@dataclass(slots=True, eq=False)
class Job:
    """Prompts ``first`` to ``first + len(prompts) - 1`` of a group, or one budget query in the place of a prompt.

    ``contexts``: none, one for all, or one for each.
    """

    group: Group
    first: int
    prompts: list[bytes]
    options: bytes = b""
    contexts: Sequence[Payload] = ()
    kind: SubcallKind = "model"


def encode_prompt(prompt: str) -> bytes:
    return encode_text(str.__str__(prompt))


def encode_options(model: str | None, schema: object, recursive: bool | None) -> bytes:
    """What a call was asked besides its prompt, as JSON; empty where nothing was."""
    if model is schema is recursive is None:
        return b""
    chosen = {"model": model, "schema": schema, "recursive": recursive}
    given = {name: value for name, value in chosen.items() if value is not None}
    return dump(json.loads(json.dumps(given)))[1]


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
        self._arrived: deque[tuple[int, object, bytes, float]] = deque()
        self._resuming: Waiter | None = None  # whoever was woken last, and goes on before anybody else is
        self._batches = 0
        self.window = 1

    def begin(self) -> None:
        """A cell starts: calls are allowed."""
        self._active = True

    def end(self) -> int:
        """The cell is over: whoever still waits gets an error. Returns how many calls were unanswered."""
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
        """Whether a batch should hand over more now. Once no cell runs it should: it is told so then."""
        return not self._active or not self._is_full()

    def room(self) -> int:
        """How many prompts a batch may hand over now: at least 1, so that a batch always gets its turn in the queue."""
        return max(1, min(FRAME_CALLS, self.window - len(self._open) - len(self._queue)))

    def start(self, job: Job) -> None:
        """Sends a job, or queues it until there is room.

        Raises:
            LLMQueryError: when no cell is running.
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
        """Notes who is to be woken when the group is complete, or when there is room to feed it.

        Returns False, and notes nothing, when that is so already.
        """
        with self._guard, self._lock:
            if group.complete or not (group.fed or self._is_full()) or not self._active:
                return False
            group.waiter = waiter
            if not group.fed:
                self._awaiting_room.append(group)
            return True

    def abandon(self, group: Group) -> None:
        """The caller no longer waits: its open calls are cancelled at the host, its queued ones forgotten.

        A coroutine that nobody holds any more gives up wherever it is collected, also while this very thread holds a lock of
        ours. It is heeded by whoever next works with the calls.
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
        """Takes the answers of one frame: ``items`` lists call, kind, length and seconds; their bytes follow each other."""
        start = 0
        for number, kind, length, *elapsed in message.header["items"]:  # type: ignore[attr-defined]
            self._arrived.append((number, kind, message.body[start : start + length], sum(elapsed)))
            start += length
        self.deliver()

    def deliver(self) -> bool:
        """Hands out answers in their order. Where one is for this very thread, it goes on, and who reads next hands out more.

        For code of ours, guarded already. Returns whether something is left.
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
        """Up to the first answer that wakes a caller; returns what wakes it."""
        while self._arrived:
            number, kind, payload, elapsed = self._arrived.popleft()
            found = self._open.pop(number, None)
            if found is None:
                continue
            group, index, started_ns = found
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
        """Whether a batch should wait: frames of a few prompts each would cost more than they gain."""
        step = min(FRAME_CALLS, max(1, self.window // 4))
        return bool(self._queue) or self.window - len(self._open) < step

    def _send_job(self, job: Job) -> None:
        first = self._next_id
        self._next_id += len(job.prompts)
        for offset in range(len(job.prompts)):
            self._open[first + offset] = (job.group, job.first + offset, cell_clock.now_ns)
        header: dict[str, object] = {"t": "call", "kind": job.kind, "first": first}
        if job.kind == "budget":
            self._send(header, b"")
            return
        header["prompts"] = [len(prompt) for prompt in job.prompts]
        if job.options:
            header["options"] = len(job.options)
        if job.contexts:
            header["contexts"] = [[kind, len(payload)] for kind, payload in job.contexts]
        if job.group.batch is not None:
            header["batch"] = job.group.batch
        if job.group.ahead:
            header["ahead"] = True
        self._send(header, b"".join([job.options, *(payload for _, payload in job.contexts), *job.prompts]))

    @staticmethod
    def _wake(group: Group) -> None:
        waiter, group.waiter = group.waiter, None
        if waiter is not None:
            waiter.wake()


def _decode_outcome(kind: object, payload: bytes) -> Outcome:
    if kind == "f":
        name, message = load("j", payload)
        return failure_of(name, message)
    try:
        return load(kind, payload, trusted=True)
    except WireError as error:
        return LLMQueryError(f"the answer could not be read: {error}", "MalformedReplyError")
