"""What host and worker may say to each other, and when: a state machine over messages, without I/O.

                 open           ready          start            done
        new ────────> opening ───────> idle ─────────> running ───────> idle
                                        │     ask                  value
                                        └────────────> asking ────────> idle

The worker runs hostile code, so whatever it sends is checked here: the type against the state, every number and length
against what is there, every text against its limit. Anything else is a ProtocolViolationError, after which this session
must not be used any more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from rlm.core.cells import Cell, PlainValue, Variable
from rlm.core.errors import ProtocolViolationError
from rlm.core.repl_spec import ReplLimits
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, SubcallAnswer, SubcallFailure, SubcallOutcome
from rlm.sandbox.shared_memory import Header
from rlm.sandbox.worker.wire.frames import Decoder, Message, WireError, decode_text, encode_text, pack_message
from rlm.sandbox.worker.wire.values import dump, load

MAX_MESSAGE_BYTES = 256 * 1024 * 1024  # of an answer, or of 64 prompts; a worker never needs more
MAX_TEXT_CHARS = 200_000  # of an echo or a traceback; the worker cuts at half of this
MAX_NOTES = 200
MAX_VARIABLES = 1000
MAX_NAME_CHARS = 10_000
REPLY_ITEMS = 500  # answers in one frame: their list must fit its header
REPLY_BYTES = 8 * 1024 * 1024

State: TypeAlias = Literal["new", "opening", "idle", "running", "asking"]
LEGAL: dict[State, frozenset[str]] = {
    "new": frozenset(),
    "opening": frozenset({"ready"}),
    "idle": frozenset(),
    "running": frozenset({"out", "call", "cancel", "done"}),
    "asking": frozenset({"value"}),
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SharedMemoryContext:
    """A shared context that the worker already holds, under this descriptor."""

    header: Header
    descriptor: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The REPL holds its context."""


@dataclass(frozen=True, slots=True)
class Printed:
    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """Sub-calls were made; each stays open until it is answered or withdrawn."""

    subcalls: tuple[Subcall, ...]


@dataclass(frozen=True, slots=True)
class Withdrew:
    """Nobody waits for these sub-calls any more."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """A cell ended. ``omitted`` and ``tails`` belong to stdout and stderr; ``answer`` is a tuple of one, or None."""

    end: Literal["ok", "error", "exit", "interrupted"]
    echo: str | None
    error: str | None
    traceback: str | None
    notes: tuple[str, ...]
    variables: tuple[Variable, ...]
    omitted: tuple[int, int]
    tails: tuple[str, str]
    answer: tuple[PlainValue] | None
    prefetched: int = 0
    prefetches_used: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    """The value asked for, in a tuple of one, or None where there is none."""

    value: tuple[PlainValue] | None


SessionEvent: TypeAlias = Ready | Printed | Called | Withdrew | Done | Value


class Session:
    """One worker's side of the conversation. Methods that speak return the bytes to send."""

    def __init__(self, limits: ReplLimits) -> None:
        self._limits = limits
        self._decoder = Decoder(MAX_MESSAGE_BYTES)
        self._next_id = 1
        self._base = 0  # ids count through a worker's life, Subcall.number within a cell
        self._open: set[int] = set()
        self._printed = self._prefetched = 0
        self.state: State = "new"

    @property
    def open_calls(self) -> int:
        return len(self._open)

    def open(
        self, context: PlainValue | SharedMemoryContext, can_call: bool, seed: str | None = None
    ) -> Iterator[bytes]:
        """Raises NotPlain when the context is not plain data."""
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
        return pack_message(header, payload)

    def start(self, cell: Cell, name: str | None = None) -> Iterator[bytes]:
        self._move("idle", "running")
        self._base, self._printed, self._prefetched = self._next_id - 1, 0, 0
        header = {"t": "cell", "name": name or cell.name, "clock": cell.clock_s, "prefetch": cell.prefetch}
        return pack_message(header, encode_text(cell.code))

    def ask(self, name: str | None) -> Iterator[bytes]:
        """Asks for one variable, or for all."""
        self._move("idle", "asking")
        header: dict[str, object] = {"t": "variables"} if name is None else {"t": "read"}
        return pack_message(header, encode_text(name or ""))

    def answer(self, outcomes: Iterable[tuple[int, SubcallOutcome]]) -> Iterator[bytes]:
        """Answers sub-calls by their numbers; those that are no longer open are left out."""
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

    def receive(self, data: bytes) -> list[SessionEvent]:
        """What the worker said.

        Raises:
            ProtocolViolationError: when it said what no honest worker says.
        """
        try:
            return [self._accept(message) for message in self._decoder.feed(data)]
        except WireError as error:
            raise ProtocolViolationError(f"a worker sent bytes that are not the protocol: {error}") from error

    def _move(self, before: State, after: State) -> None:
        if self.state != before:
            raise RuntimeError(f"a REPL that is {self.state} cannot do this; it does one thing at a time")
        self.state = after

    def _accept(self, message: Message) -> SessionEvent:
        if message.type not in LEGAL[self.state]:
            raise ProtocolViolationError(f"a worker sent {message.type[:40]!r} while {self.state}")
        match message.type:
            case "ready":
                self.state = "idle"
                return Ready()
            case "out":
                return self._on_out(message)
            case "call":
                return self._on_call(message)
            case "cancel":
                return self._on_cancel(message)
            case "done":
                return self._on_done(message)
            case _:
                self.state = "idle"
                kind = message.header.get("kind")
                return Value(None if kind is None else (load(kind, message.body),))

    def _on_out(self, message: Message) -> Printed:
        self._printed += len(message.body)
        if self._printed > 8 * self._limits.output_chars + 65_536:  # two streams, up to four bytes a character
            raise ProtocolViolationError("a worker sent more output than its limit allows")
        stream = "stderr" if _int(message.header.get("stream"), 1) else "stdout"
        return Printed(stream, decode_text(message.body))  # type: ignore[arg-type]

    def _on_call(self, message: Message) -> Called:
        match message.header.get("kind"):
            case "model":
                return self._on_model_queries(message)
            case "budget":
                return self._on_budget_query(message)
            case _:
                raise ProtocolViolationError("a worker sent a sub-call of an unknown kind")

    def _on_budget_query(self, message: Message) -> Called:
        header, body = message
        if body or header.keys() != {"t", "kind", "first"}:
            raise ProtocolViolationError("a worker sent a budget query with a prompt or options")
        self._open_calls(header.get("first"), 1)
        return Called((BudgetQuery(self._next_id - 1 - self._base),))

    def _open_calls(self, first: object, count: int) -> None:
        """Opens ``count`` sub-calls. Their ids must follow the last one."""
        if type(first) is not int or first != self._next_id:
            raise ProtocolViolationError("a worker sent a sub-call out of order")
        if len(self._open) + count > self._limits.open_calls:
            raise ProtocolViolationError(f"a worker opened more than {self._limits.open_calls} sub-calls at once")
        self._open.update(range(first, first + count))
        self._next_id += count

    def _on_model_queries(self, message: Message) -> Called:
        header, body = message
        lengths = [_int(length, len(body)) for length in _list(header.get("prompts"), 1024)]
        if not lengths:
            raise ProtocolViolationError("a worker sent a sub-call without prompts")
        options_length = _int(header.get("options", 0), len(body))
        contexts = [_pair(each, len(body)) for each in _list(header.get("contexts", []), 1024)]
        if len(contexts) not in (0, 1, len(lengths)):
            raise ProtocolViolationError("a worker sent contexts that do not match its prompts")
        sizes = [options_length, *(length for _, length in contexts), *lengths]
        if sum(sizes) != len(body):
            raise ProtocolViolationError("a worker sent lengths that do not add up")
        pieces = _split(body, sizes)
        options = _read_options(next(pieces))
        values = [load(kind, next(pieces)) for kind, _ in contexts]
        batch = header.get("batch")
        first = self._next_id - self._base
        self._open_calls(header.get("first"), len(lengths))
        queries = tuple(
            ModelQuery(
                number=first + index,
                prompt=decode_text(piece),
                context=values[index if len(values) > 1 else 0] if values else None,
                has_context=bool(values),
                batch=None if batch is None else _int(batch, 2**53),
                prefetched=header.get("ahead") is True,
                **options,
            )
            for index, piece in enumerate(pieces)
        )
        if header.get("ahead") is True:
            self._prefetched += len(queries)
        return Called(queries)

    def _on_cancel(self, message: Message) -> Withdrew:
        ids = [_int(number, self._next_id - 1) for number in _list(message.header.get("calls"), 1024)]
        found = tuple(number - self._base for number in ids if number in self._open)
        self._open.difference_update(ids)
        return Withdrew(found)

    def _on_done(self, message: Message) -> Done:
        header, body = message
        end = header.get("end")
        if end not in ("ok", "error", "exit", "interrupted"):
            raise ProtocolViolationError("a worker ended a cell in an unknown way")
        info_length = _int(header.get("info"), len(body))
        info = load("j", body[:info_length])
        if not isinstance(info, dict):
            raise ProtocolViolationError("a worker sent a report that is none")
        kind = header.get("answer")
        omitted = [_int(each, 2**53) for each in _list(info.get("omitted"), 2)]
        tails = [_text(each, self._limits.output_chars) for each in _list(info.get("tails"), 2)]
        if len(omitted) != 2 or len(tails) != 2:
            raise ProtocolViolationError("a worker sent a report that is not whole")
        done = Done(
            end=end,
            echo=_optional_text(info.get("echo")),
            error=_optional_text(info.get("error")),
            traceback=_optional_text(info.get("traceback")),
            notes=tuple(_text(note, MAX_TEXT_CHARS) for note in _list(info.get("notes"), MAX_NOTES)),
            variables=tuple(_variable(each) for each in _list(info.get("variables"), MAX_VARIABLES)),
            omitted=(omitted[0], omitted[1]),
            tails=(tails[0], tails[1]),
            answer=None if kind is None else (load(kind, body[info_length:]),),
            prefetched=self._prefetched,
            prefetches_used=_int(info.get("used", 0), self._prefetched),
        )
        self._open.clear()
        self.state = "idle"
        return done


def _dump_outcome(outcome: SubcallOutcome) -> tuple[str, bytes]:
    match outcome:
        case SubcallAnswer(value):
            return dump(value)
        case SubcallFailure(kind, message):
            return "f", dump([kind, message])[1]


def _split(body: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        yield body[start : start + size]
        start += size


def _read_options(data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    options = load("j", data)
    if not isinstance(options, dict) or not options.keys() <= {"model", "schema", "recursive"}:
        raise ProtocolViolationError("a worker sent a sub-call with unknown options")
    model, schema, recursive = options.get("model"), options.get("schema"), options.get("recursive")
    if not (isinstance(schema, dict | None) and isinstance(recursive, bool | None)):
        raise ProtocolViolationError("a worker sent a sub-call with options of the wrong type")
    if model is not None:
        _text(model, MAX_NAME_CHARS)
    return options


def _int(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ProtocolViolationError("a worker sent a number that is out of range")
    return value


def _list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolViolationError("a worker sent something else than a list, or too long a list")
    return value


def _pair(value: object, most: int) -> tuple[object, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ProtocolViolationError("a worker sent a context that is none")
    return value[0], _int(value[1], most)


def _text(value: object, most: int) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ProtocolViolationError("a worker sent something else than text, or too long a text")
    return value


def _optional_text(value: object) -> str | None:
    return None if value is None else _text(value, MAX_TEXT_CHARS)


def _variable(value: object) -> Variable:
    if not isinstance(value, list) or len(value) != 3:
        raise ProtocolViolationError("a worker sent a variable that is none")
    name, kind, size = value
    return Variable(
        _text(name, MAX_NAME_CHARS), _text(kind, MAX_NAME_CHARS), None if size is None else _int(size, 2**62)
    )
