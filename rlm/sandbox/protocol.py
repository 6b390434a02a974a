"""The protocol between host and worker: a state machine over messages, without I/O.

                 open           ready          start            done
        new ────────> opening ───────> idle ─────────> running ───────> idle
                                        │     ask                  value
                                        └────────────> asking ────────> idle

The worker runs hostile code, so each of its messages is checked: the type against the state here, the contents against
their limits in ``decoding``. Any other message raises ProtocolViolationError, and the session must not be used again.

A message is accepted in steps, so that a large one does not hold up the event loop. While one is being accepted, answers can
be sent, and no other message is accepted.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypeAlias, TypeVar

from rlm.core.cells import Cell, PlainValue
from rlm.core.errors import ProtocolViolationError
from rlm.core.repl_spec import ReplLimits
from rlm.core.subcalls import SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.core.tools import ToolSpec
from rlm.sandbox.decoding import check_int, check_list, decode_done, decode_subcalls
from rlm.sandbox.messages import Called, Done, Printed, Ready, SessionEvent, SharedMemoryContext, Value, Withdrew
from rlm.sandbox.worker.wire.frames import (
    PART_BYTES,
    Decoder,
    Message,
    WireError,
    decode_text,
    encode_text,
    pack_message,
)
from rlm.sandbox.worker.wire.pieces import Steps, read_value
from rlm.sandbox.worker.wire.values import dump

MAX_MESSAGE_BYTES = 80 * 1024 * 1024  # an answer and a report, or 64 prompts; a worker never sends more
REPLY_ITEMS = 500  # answers in one frame, whose list must fit the frame's header
REPLY_BYTES = 8 * 1024 * 1024

T = TypeVar("T")
State: TypeAlias = Literal["new", "opening", "idle", "running", "asking"]
LEGAL: dict[State, frozenset[str]] = {
    "new": frozenset(),
    "opening": frozenset({"ready"}),
    "idle": frozenset(),
    "running": frozenset({"out", "call", "cancel", "done"}),
    "asking": frozenset({"value"}),
}


class Session:
    """The host's state of one worker's conversation. Methods that send return the bytes to write."""

    def __init__(self, limits: ReplLimits) -> None:
        self._limits = limits
        self._decoder = Decoder(MAX_MESSAGE_BYTES, PART_BYTES)
        self._next_id = 1
        self._base = 0  # ids count through a worker's life, Subcall.number within a cell
        self._open: set[int] = set()
        self._printed = self._prefetched = 0
        self.state: State = "new"

    @property
    def open_calls(self) -> int:
        return len(self._open)

    def open(
        self,
        context: PlainValue | SharedMemoryContext,
        can_call: bool,
        seed: str | None = None,
        side_table: str = "",
        tools: Sequence[ToolSpec] = (),
        *,
        is_typed: bool = False,
    ) -> Iterator[bytes]:
        """Opens the REPL with its context, the side table of its documents, and its tools. ``is_typed``: see ``ReplSpec``.

        Raises:
            NotPlain: the context is not plain data.
        """
        handed: dict[str, object] = {}
        if isinstance(context, SharedMemoryContext):
            kind, payload = "shared", b""
            handed = {"shared": dataclasses.asdict(context.header), "fd": context.descriptor}
        else:
            kind, payload = dump(context, strict=True)
        self._move("new", "opening")
        limits = {"open_calls": self._limits.open_calls, "output_chars": self._limits.output_chars}
        limits["memory_mb"] = self._limits.memory_mb
        limits["ahead"] = self._limits.prefetch_ahead
        header = {"t": "open", "limits": limits, "can_call": can_call, "context": kind, "seed": seed, **handed}
        if is_typed:
            header["typed"] = True
        if side_table:
            side = encode_text(side_table)
            header["side"] = len(side)
            payload += side
        if tools:
            described = encode_text(json.dumps([_describe_tool(tool) for tool in tools]))
            header["tools"] = len(described)
            payload += described
        return pack_message(header, payload)

    def counts(self, first: int, counts: bytes) -> Iterator[bytes]:
        """Sends counts of a large file, see ``FileBlocks``."""
        if self.state != "idle":
            raise RuntimeError("counts are sent between two cells")
        return pack_message({"t": "counts", "first": first}, counts)

    def start(self, cell: Cell, name: str | None = None) -> Iterator[bytes]:
        self._move("idle", "running")
        self._base, self._printed, self._prefetched = self._next_id - 1, 0, 0
        header = {"t": "cell", "name": name or cell.name, "clock": cell.clock_s, "prefetch": cell.prefetch}
        return pack_message(header, encode_text(cell.code))

    def _limit_message(self, max_bytes: int) -> None:
        self._decoder.max_message_bytes = max_bytes

    def ask(self, name: str | None) -> Iterator[bytes]:
        """Requests one variable, or all if ``name`` is None."""
        self._move("idle", "asking")
        most = self._limits.value_mb * 1024 * 1024
        self._limit_message(max(MAX_MESSAGE_BYTES, 2 * most))
        header: dict[str, object] = {"t": "variables"} if name is None else {"t": "read", "most": most}
        return pack_message(header, encode_text(name or ""))

    def answer(self, outcomes: Iterable[tuple[int, SubcallOutcome]]) -> Iterator[bytes]:
        """Answers sub-calls by number; drops answers to calls that are not open any more."""
        items: list[list[object]] = []
        bodies: list[bytes] = []
        size = 0
        for number, outcome in outcomes:
            if number + self._base not in self._open:
                continue
            self._open.discard(number + self._base)
            kind, payload = _dump_outcome(outcome)
            took = [outcome.elapsed_s] if outcome.elapsed_s else []
            items.append([number + self._base, kind, len(payload), *took])
            bodies.append(payload)
            size += len(payload)
            if len(items) == REPLY_ITEMS or size > REPLY_BYTES:
                yield from pack_message({"t": "reply", "items": items}, b"".join(bodies))
                items, bodies, size = [], [], 0
        if items:
            yield from pack_message({"t": "reply", "items": items}, b"".join(bodies))

    @property
    def buffered_bytes(self) -> int:
        """Size of an incomplete message of the worker."""
        return self._decoder.buffered_bytes

    @property
    def frames(self) -> int:
        """Number of frames in the data fed last."""
        return self._decoder.frames

    def feed(self, data: bytes) -> list[Message]:
        """The messages that ``data`` completes.

        Raises:
            ProtocolViolationError: the bytes are not messages.
        """
        try:
            return self._decoder.feed(data)
        except WireError as error:
            raise ProtocolViolationError(f"malformed bytes from worker: {error}") from error

    def accept(self, message: Message) -> Steps[SessionEvent]:
        """Decodes a message of the worker.

        Raises:
            ProtocolViolationError: it is not a legal message in this state.
        """
        try:
            return (yield from self._accept(message))
        except WireError as error:
            raise ProtocolViolationError(f"malformed bytes from worker: {error}") from error

    def receive(self, data: bytes) -> list[SessionEvent]:
        """Decodes the worker's messages at once. Raises ProtocolViolationError."""
        return [finish(self.accept(message)) for message in self.feed(data)]

    def _move(self, before: State, after: State) -> None:
        if self.state != before:
            raise RuntimeError(f"a REPL in the state {self.state!r} cannot do this; it handles one request at a time")
        self.state = after

    def _accept(self, message: Message) -> Steps[SessionEvent]:
        if message.type not in LEGAL[self.state]:
            raise ProtocolViolationError(f"a worker sent {message.type[:40]!r} while {self.state}")
        match message.type:
            case "ready":
                self.state = "idle"
                return Ready()
            case "out":
                return self._on_out(message)
            case "call":
                return (yield from self._on_call(message))
            case "cancel":
                return self._on_cancel(message)
            case "done":
                return (yield from self._on_done(message))
            case _:
                kind = message.header.get("kind")
                value = None if kind is None else ((yield from read_value(kind, memoryview(message.body))),)
                self.state = "idle"
                self._limit_message(MAX_MESSAGE_BYTES)
                return Value(value)

    def _on_out(self, message: Message) -> Printed:
        self._printed += len(message.body)
        if self._printed > 8 * self._limits.output_chars + 65_536:  # two streams, up to four bytes a character
            raise ProtocolViolationError("a worker sent more output than its limit allows")
        stream = "stderr" if check_int(message.header.get("stream"), 1) else "stdout"
        return Printed(stream, decode_text(message.body))  # type: ignore[arg-type]

    def _on_call(self, message: Message) -> Steps[Called]:
        first = self._next_id - self._base
        subcalls = yield from decode_subcalls(message, first)
        self._open_calls(message.header.get("first"), len(subcalls))
        if message.header.get("ahead") is True:
            self._prefetched += len(subcalls)
        return Called(subcalls, len(message.body))

    def _open_calls(self, first: object, count: int) -> None:
        """Opens ``count`` sub-calls. Their ids must follow the last one."""
        if type(first) is not int or first != self._next_id:
            raise ProtocolViolationError("a worker sent a sub-call out of order")
        if len(self._open) + count > self._limits.open_calls:
            raise ProtocolViolationError(f"a worker opened more than {self._limits.open_calls} sub-calls at once")
        self._open.update(range(first, first + count))
        self._next_id += count

    def _on_cancel(self, message: Message) -> Withdrew:
        ids = [check_int(number, self._next_id - 1) for number in check_list(message.header.get("calls"), 1024)]
        open_numbers = tuple(number - self._base for number in ids if number in self._open)
        self._open.difference_update(ids)
        return Withdrew(open_numbers)

    def _on_done(self, message: Message) -> Steps[Done]:
        done = yield from decode_done(message, self._limits.output_chars, self._prefetched)
        self._open.clear()
        self.state = "idle"
        return done


def finish(steps: Steps[T]) -> T:
    """Takes all steps at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def _describe_tool(tool: ToolSpec) -> list[object]:
    parameters = [[item.label, item.kind, item.annotation, item.default] for item in tool.parameters]
    return [tool.tool, parameters, tool.returns, tool.doc]


def _dump_outcome(outcome: SubcallOutcome) -> tuple[str, bytes]:
    match outcome:
        case SubcallAnswer(value):
            return dump(value)
        case SubcallFailure(kind, message):
            return "f", dump([kind, message])[1]
