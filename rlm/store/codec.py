"""Events as JSON lines and back.

A line is a list of events in order. An event is ``[kind, {field: value}]``, or a row. Between them stand

- ``["rlm", version]`` where an encoder starts: nothing refers to anything before it,
- an integer: the sequence number of the next event, unless it follows the one before,
- a float: the call that started last left for its provider at this time, in its first attempt.

Kinds that come by the thousand are rows. A row lists the values that change with every event. It refers to all other fields,
which are written once for all the events that share them. A field that a row does not list is among the others. This module
must not know of databases.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import orjson

from rlm.core import events
from rlm.core.events import AnyEvent, CallSent, CallStarted, NodeFinished, RunFinished
from rlm.core.ids import NodeId, RunId
from rlm.core.messages import Message
from rlm.store import legacy
from rlm.store.forms import (
    Column,
    DumpValue,
    Json,
    LoadValue,
    ObjectCoder,
    ValueReader,
    ValueWriter,
    coder_of_class,
    columns_of,
    compile_function,
)
from rlm.store.upgrade import OLD_KINDS

KINDS: dict[str, type[AnyEvent]] = {kind.__name__: kind for kind in typing.get_args(AnyEvent)}
MESSAGES = "request.messages"  # written by the encoder, which knows the conversation
MAX_SHARED = 1000  # sets of shared values that both sides remember
START = "rlm"


class RowForm:
    """A kind of event as a row: ``code``, the values at ``own`` paths, and the shared values or their number.

    A path such as "reply.usage.calls" leads through the objects in an event. Shared are all fields that no own path names.
    Writers and readers are compiled, as dataclasses are: they are called for thousands of events a second.
    """

    def __init__(self, code: str, kind: type[AnyEvent], *own: str) -> None:
        self.code = code
        self.kind = kind
        self.own = own
        self._objects: dict[str, Any] = {}  # the classes of objects whose values are columns

    @cached_property
    def _columns(self) -> dict[str, Column]:
        return dict(self._expand(self.kind, ""))

    def _expand(self, cls: Any, prefix: str) -> Iterator[tuple[str, Column]]:
        for name, column in columns_of(cls).items():
            path, inner = prefix + name, column.hint
            if any(own.startswith(f"{path}.") for own in self.own):
                inner = next(filter(dataclasses.is_dataclass, (inner, *typing.get_args(inner))))
            # Objects are compared value by value: their own comparison can leave some out.
            if dataclasses.is_dataclass(inner) and path not in self.own:
                self._objects[path] = inner
                yield from self._expand(inner, f"{path}.")
            else:
                yield path, column

    @cached_property
    def shared(self) -> ObjectCoder:
        return ObjectCoder(dict, {path: column for path, column in self._columns.items() if path not in self.own})

    @cached_property
    def make_writer(self) -> Callable[[Encoder, SharedRows], Callable[[Any], Json]]:
        """Makes the writer of one encoder."""
        names = dict[str, Any]()
        values = [repr(self.code)]
        for path in self.own:
            value = _access(path)
            is_messages = path == MESSAGES
            values.append(
                f"messages(event.node, {value})" if is_messages else self._columns[path].coder.written(value, names)
            )
        lines = [
            "messages, find, add, nothing = writer.messages, rows.get, rows.add, (None, 0)",
            "def write(event):",
            *(f" {_local(path)} = {_access(path)}" for path in self._objects),
            f" shared = ({', '.join(map(_access, self.shared.keys))})",
            " known, number = find(event.node, nothing)",
            " reference = number if known == shared else add(event, shared)",
            f" return ({', '.join(values)}, reference)",
            "return write",
        ]
        return compile_function(names, "\n ".join(["(writer, rows):", *lines]))

    def read_shared(self, decoder: Decoder, row: Json) -> dict[str, Any]:
        values = self.shared.defaults | self.shared.values(decoder, row)
        if any(value is dataclasses.MISSING for value in values.values()):
            raise ValueError(f"a field of {self.kind.__name__} is missing")
        return values

    @cached_property
    def read(self) -> Callable[[Decoder, Sequence[Json], Mapping[str, Any]], AnyEvent]:
        """Reads a row and its shared values."""
        names = dict[str, Any]()
        return compile_function(names, f"(decoder, row, shared): return {self._construct(self.kind, '', names)}")

    def _construct(self, cls: Any, prefix: str, names: dict[str, Any]) -> str:
        """An expression that constructs an object of the row's values."""
        names[cls.__name__] = cls
        values = ["run=decoder.run, seq=decoder.seq"] if cls is self.kind else []
        for name in columns_of(cls):
            path = prefix + name
            if path in self._objects:
                value = self._construct(self._objects[path], f"{path}.", names)
            elif path in self.own:
                value, read = f"row[{self.own.index(path) + 1}]", self._columns[path].coder.read
                if path == MESSAGES:
                    value = f"decoder.messages(shared['node'], {value})"
                elif read is not None:
                    names[f"read_{name}"] = read
                    value = f"read_{name}(decoder, {value})"
            else:
                value = f"shared[{path!r}]"
            values.append(f"{name}={value}")
        return f"{cls.__name__}({', '.join(values)})"


def _local(path: str) -> str:
    return path.replace(".", "_") or "event"


def _access(path: str) -> str:
    parent, _, name = path.rpartition(".")
    return f"{_local(parent)}.{name}"


LEAF = RowForm("^", CallStarted, "at_s", "call", "key", MESSAGES)
TURN = RowForm("*", CallStarted, "at_s", "call", "turn", "limit", MESSAGES, "request.task.turn")
SENT = RowForm(">", CallSent, "at_s", "call", "attempt")
_ROWS = (
    LEAF, TURN, SENT,
    RowForm(
        "-", events.CallReplied, "at_s", "call", "elapsed_s", "cost_usd", "reply.text", "reply.cost_usd", "reply.usage.calls",
        "reply.usage.input_tokens", "reply.usage.cached_tokens", "reply.usage.cache_write_tokens",
        "reply.usage.output_tokens", "reply.usage.reasoning_tokens",
    ),
    RowForm("=", events.SubcallEnded, "at_s", "call", "key", "value", "failure", "elapsed_s"),
    RowForm("{", events.CellStarted, "at_s"),
    RowForm("}", events.CellExecuted, "at_s", "result", "notice"),
)  # fmt: skip
"""A change to the own paths of a row, or to their order, needs another code: journals keep what is written."""
ROWS, _FORM_OF = {form.code: form for form in _ROWS}, {form.kind: form for form in _ROWS}


class SharedRows(dict[NodeId, tuple[tuple[Any, ...], int]]):
    """The shared values that were written last for each node, with their number."""

    def __init__(self, encoder: Encoder, coder: ObjectCoder) -> None:
        self._encoder = encoder
        self._coder = coder
        self._next = 0

    def add(self, event: AnyEvent, values: tuple[Any, ...]) -> Json:
        """Writes the shared values of an event."""
        if self._next == MAX_SHARED:  # the reader forgets them, too
            self.clear()
            self._next = 0
        self[event.node] = values, self._next
        self._next += 1
        return self._coder.write(self._encoder, event)


class Encoder(ValueWriter):
    """Encodes the events of one run, in order.

    ``status`` is how the run ended, once that was encoded. Most of the cost of a journal is here, a microsecond for each event.
    """

    def __init__(self, dump: DumpValue, *, keep_texts: bool = True) -> None:
        super().__init__(dump, keep_texts=keep_texts)
        self.status: str | None = None
        self._next_seq: int | None = None
        self._started: CallStarted | None = None
        self._talks: dict[NodeId, tuple[Message, ...]] = {}
        self._shared: dict[tuple[str, ...], SharedRows] = {}
        self._writers: dict[type[AnyEvent], Callable[[Any], Json]] = {
            CallStarted: self._call_started, CallSent: self._call_sent, NodeFinished: self._finished, RunFinished: self._finished,
        }  # fmt: skip

    def encode(self, pending: deque[AnyEvent]) -> bytes:
        """A line for all ``pending`` events, which are taken out of it; empty if there are none.

        Other threads can append meanwhile; what they append is left for the next line.
        """
        writer_of, take, seq = self._writers.get, pending.popleft, self._next_seq
        rows: list[Json] = [] if seq is not None else [(START, events.SCHEMA_VERSION)]
        for _ in range(len(pending)):
            event = take()
            number = event.seq
            if number != seq:
                rows.append(number)
            seq = number + 1
            write = writer_of(type(event)) or self._new_writer(type(event))
            rows.append(write(event))
        self._next_seq = seq
        return _dump(rows) if seq is not None else b""

    def _new_writer(self, kind: type[AnyEvent]) -> Callable[[Any], Json]:
        form = _FORM_OF.get(kind)
        self._writers[kind] = write = self._row_writer(form) if form else self.member
        return write

    def _row_writer(self, form: RowForm) -> Callable[[Any], Json]:
        return form.make_writer(self, self._shared.setdefault(form.shared.keys, SharedRows(self, form.shared)))

    @cached_property
    def _leaf(self) -> Callable[[CallStarted], Json]:
        return self._row_writer(LEAF)

    @cached_property
    def _turn(self) -> Callable[[CallStarted], Json]:
        return self._row_writer(TURN)

    @cached_property
    def _sent(self) -> Callable[[CallSent], Json]:
        return self._row_writer(SENT)

    def take_texts(self) -> dict[bytes, bytes]:
        texts, self.texts = self.texts, {}
        return texts

    def _call_started(self, event: CallStarted) -> Json:
        self._started, request = event, event.request
        row = self._leaf(event) if request.task is None else self._turn(event)
        if event.role == "node":
            self._talks[event.node] = request.messages
        return row

    def _call_sent(self, event: CallSent) -> Json:
        started, at_s = self._started, event.at_s
        if (
            started is not None
            and event.call == started.call
            and event.node == started.node
            and event.attempt == 1
            and not event.hedge
            and type(at_s) is float
        ):
            return at_s
        return self._sent(event)

    def _finished(self, event: NodeFinished | RunFinished) -> Json:
        self._talks.pop(event.node, None)
        self.status = event.status if isinstance(event, RunFinished) else None
        return self.member(event)

    def messages(self, node: NodeId, messages: tuple[Message, ...]) -> Json:
        """A text for one message of the user; otherwise the messages that the node's last turn did not have."""
        if len(messages) == 1 and messages[0].role == "user" and isinstance(messages[0].content, str):
            return self.text(messages[0].content)
        before = self._talks.get(node, ())
        same = len(before)
        if messages[:same] != before:
            pairs = zip(messages, before, strict=False)
            same = next((n for n, (one, other) in enumerate(pairs) if one != other), min(same, len(messages)))
        return [same, *[self._message(message) for message in messages[same:]]]

    def _message(self, message: Message) -> Json:
        """Role and text, or an object."""
        if isinstance(message.content, str):
            return message.role, self.text(message.content)
        return coder_of_class(Message).write(self, message)


def _dump(rows: Json) -> bytes:
    try:
        return orjson.dumps(rows)
    except TypeError:  # a lone surrogate, which it does not write; escapes of two would be read as one character
        return json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def load_line(line: bytes) -> Json:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


class Decoder(ValueReader):
    """Decodes the events of one run, in order. ``run`` and ``seq`` are those of the event that is read."""

    def __init__(
        self, run: RunId, find_text: Callable[[bytes], bytes | None], load: LoadValue, *, lenient: bool = False
    ) -> None:
        super().__init__(find_text, load, lenient=lenient)
        self.run = run
        self.seq = 0
        self._legacy: legacy.Reader | None = legacy.Reader()
        self._start()

    def _start(self) -> None:
        """Another encoder wrote what follows."""
        self._started: Any = None
        self._talks: dict[NodeId, tuple[Message, ...]] = {}
        self._shared = defaultdict[tuple[str, ...], list[dict[str, Any]]](list)

    def decode(self, line: bytes) -> list[AnyEvent]:
        """The events of a line. Events of kinds that this version does not know are left out.

        Raises:
            MissingTextError: a text was not stored.
        """
        rows = load_line(line)
        if rows[0][:1] == [START] if isinstance(rows[0], list) else False:
            self._legacy = None
        elif self._legacy is not None:
            rows = self._legacy.convert(rows)
        return [event for row in rows if (event := self._read(row)) is not None]

    def _read(self, row: Json) -> AnyEvent | None:
        if isinstance(row, int):
            self.seq = row - 1
            return None
        if isinstance(row, float):
            row = ["CallSent", {"node": self._started.node, "at_s": row, "call": self._started.call, "attempt": 1}]
        code = row[0]
        if code == START:
            self._start()
            return None
        self.seq += 1
        event = self._read_row(ROWS[code], row) if code in ROWS else self._read_object(*row)
        if isinstance(event, CallStarted):
            self._started = event
            if event.role == "node":
                self._talks[event.node] = event.request.messages
        elif isinstance(event, NodeFinished | RunFinished):
            self._talks.pop(event.node, None)
        return event

    def _read_object(self, name: str, row: Json) -> AnyEvent | None:
        if name not in KINDS:
            return None
        old_field, old_kind = OLD_KINDS.get(name, ("", None))
        kind: Any = old_kind if old_field in row else KINDS[name]
        event: AnyEvent = kind(run=self.run, seq=self.seq, **coder_of_class(kind).values(self, row))
        return event

    def _read_row(self, form: RowForm, row: list[Json]) -> AnyEvent:
        sets, shared = self._shared[form.shared.keys], row[-1]
        if isinstance(shared, int):
            return form.read(self, row, sets[shared])
        if len(sets) >= MAX_SHARED:
            sets.clear()
        sets.append(form.read_shared(self, shared))
        return form.read(self, row, sets[-1])

    def messages(self, node: NodeId, written: Json) -> tuple[Message, ...]:
        """The messages that ``Encoder.messages`` wrote."""
        if not isinstance(written, list):
            return (Message("user", self.text(written)),)
        same, *new = written
        return (*self._talks.get(node, ())[:same], *[self._message(message) for message in new])

    def _message(self, written: Json) -> Message:
        if isinstance(written, list):
            role, text = written
            return Message(role, self.text(text))
        message: Message = coder_of_class(Message).read(self, written)
        return message


def ended_with(line: bytes) -> str | None:
    """The status of a run that ended in this line, otherwise None."""
    if b'["RunFinished"' not in line:
        return None
    rows = load_line(line)
    name, *rest = rows if isinstance(rows[0], str) else rows[-1]
    return str(rest[0]["status"]) if name == "RunFinished" else None
