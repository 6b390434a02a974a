"""Events as JSON lines and back. Long texts are stored apart, by the hash of their content; a turn has its new messages alone.

A line is a list of events in order. An event is ``[kind, {field: value}]``, or a row (see ``forms``). Between them stand

- ``["rlm", version]`` where an encoder starts: nothing refers to anything before it,
- an integer: the sequence number of the next event, unless it follows the one before,
- a float: the call that started last left for its provider at this time, in its first attempt.

It must not know of databases.
"""

from __future__ import annotations

import json
import math
import typing
from collections import defaultdict, deque
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeAlias

import orjson

from rlm.core.events import SCHEMA_VERSION, AnyEvent, CallSent, CallStarted, NodeFinished, RunFinished
from rlm.core.ids import NodeId, RunId
from rlm.core.messages import Message
from rlm.store import legacy
from rlm.store.forms import (
    CODERS,
    KINDS,
    LEAF,
    LONG_CHARS,
    MAX_SHARED,
    ROWS,
    SENT,
    TURN,
    Fields,
    Json,
    RowForm,
    SharedRows,
    columns_of,
    is_default,
)
from rlm.store.upgrade import OLD_KINDS

LARGE_INT = 1 << 53  # not every JSON has larger ones
START = "rlm"

DumpValue: TypeAlias = Callable[[object], tuple[str, bytes]]
LoadValue: TypeAlias = Callable[[str, bytes], object]

_write_message, _read_message = CODERS[Message]


def _check_of_rest(cls: type[Any], *names: str) -> Callable[[Any], bool] | None:
    """A check that all fields but those named are at their default; None if there are no others."""
    rest = [column for column in columns_of(cls) if column.name not in names]
    if not rest:
        return None
    return lambda thing: all(is_default(getattr(thing, column.name), column) for column in rest)


_is_plain = _check_of_rest(Message, "role", "content")
_is_plain_sent = _check_of_rest(CallSent, "node", "at_s", "call", "attempt")


class MissingTextError(LookupError):
    """A text that is referred to was not stored, or its row is gone."""


def hash_text(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


class Encoder:
    """Encodes the events of one run, in order. Texts that are stored apart gather until they are taken.

    ``status`` is how the run ended, once that was encoded. ``dump`` makes bytes of plain data whose types must come back.
    Most of the cost of a journal is here, a microsecond for each event.
    """

    def __init__(self, dump: DumpValue, *, keep_texts: bool = True) -> None:
        self._dump = dump
        self.keep_texts = keep_texts
        self.status: str | None = None
        self._texts: dict[bytes, bytes] = {}
        self._next_seq: int | None = None
        self._started: CallStarted | None = None
        self._talks: dict[NodeId, tuple[Message, ...]] = {}
        shared = defaultdict[tuple[str, ...], SharedRows](SharedRows)
        rows = {form: form.writer(self, shared[form.shared]) for form in ROWS}
        self._leaf, self._turn, self._sent = rows[LEAF], rows[TURN], rows[SENT]
        self._write: dict[type[AnyEvent], Callable[[Any], Json]] = {
            **dict.fromkeys(KINDS.values(), self._general),
            **{form.kind: write for form, write in rows.items()},
            CallStarted: self._call_started,
            CallSent: self._call_sent,
            RunFinished: self._run_finished,
            NodeFinished: self._node_finished,
        }

    def encode(self, events: deque[AnyEvent]) -> bytes:
        """A line for all ``events``, which are taken out of it; empty if there are none.

        Other threads can append meanwhile; what they append is left for the next line.
        """
        write, take, seq = self._write, events.popleft, self._next_seq
        rows: list[Json] = [] if seq is not None else [(START, SCHEMA_VERSION)]
        for _ in range(len(events)):
            event = take()
            number = event.seq
            if number != seq:
                rows.append(number)
            seq = number + 1
            rows.append(write[type(event)](event))
        self._next_seq = seq
        return _dump(rows) if seq is not None else b""

    def take_texts(self) -> dict[bytes, bytes]:
        texts, self._texts = self._texts, {}
        return texts

    def text(self, text: str) -> Json:
        """A text, or ``{"#": its hash}``."""
        if self.keep_texts and len(text) <= LONG_CHARS:
            return text
        return self._apart(text.encode("utf-8", "surrogatepass"))

    def data(self, data: bytes) -> Json:
        """The hash of bytes, which are always stored apart."""
        return self._apart(data)

    def value(self, value: object) -> Json:
        """Plain data, with its types."""
        if value is None or (self.keep_texts and _is_same_in_json(value)):
            return value
        kind, data = self._dump(value)
        return self._apart(data, kind)

    def _apart(self, data: bytes, kind: str | None = None) -> Json:
        digest = hash_text(data)
        if self.keep_texts:
            self._texts[digest] = data
            return {"#": digest.hex()} if kind is None else {"#": digest.hex(), "as": kind}
        return {"#": digest.hex(), "bytes": len(data)} if kind is None else {"#": "", "as": kind}

    def _general(self, event: AnyEvent) -> Json:
        write = CODERS[type(event)].write
        assert write is not None
        return type(event).__name__, write(self, event)

    def _call_started(self, event: CallStarted) -> Json:
        self._started, request = event, event.request
        row = self._leaf(event) if request.task is None else self._turn(event)
        if event.role == "node":
            self._talks[event.node] = request.messages
        return row

    def messages(self, node: NodeId, messages: tuple[Message, ...]) -> Json:
        """A text for one message of the user; otherwise the messages that the node's last turn did not have."""
        if len(messages) == 1 and (message := messages[0]).role == "user" and (_is_plain is None or _is_plain(message)):
            text = message.content
            if isinstance(text, str):
                return text if len(text) <= LONG_CHARS and self.keep_texts else self.text(text)
        before = self._talks.get(node, ())
        same = len(before)
        if messages[:same] != before:
            pairs = zip(messages, before, strict=False)
            same = next((n for n, (one, other) in enumerate(pairs) if one != other), min(same, len(messages)))
        return [same, *[self._message(message) for message in messages[same:]]]

    def _message(self, message: Message) -> Json:
        """Role and text, if there is nothing more to a message."""
        if isinstance(message.content, str) and (_is_plain is None or _is_plain(message)):
            return message.role, self.text(message.content)
        assert _write_message is not None
        return _write_message(self, message)

    def _call_sent(self, event: CallSent) -> Json:
        """A float, if a call leaves that was the last one to start."""
        started, self._started = self._started, None
        if (
            started is not None
            and event.call == started.call
            and event.node == started.node
            and event.attempt == 1
            and type(event.at_s) is float
            and (_is_plain_sent is None or _is_plain_sent(event))
        ):
            return event.at_s
        return self._sent(event)

    def _node_finished(self, event: NodeFinished) -> Json:
        self._talks.pop(event.node, None)
        return self._general(event)

    def _run_finished(self, event: RunFinished) -> Json:
        self.status = event.status
        return self._general(event)


def _is_same_in_json(value: object) -> bool:
    """True if a value comes back from JSON as it was."""
    kind = type(value)
    if kind is str:
        return len(typing.cast("str", value)) <= LONG_CHARS
    if kind is int:
        return -LARGE_INT < typing.cast("int", value) < LARGE_INT
    return kind is bool or (kind is float and math.isfinite(typing.cast("float", value)))


def _dump(rows: Json) -> bytes:
    try:
        return orjson.dumps(rows)
    except TypeError:  # a lone surrogate, which it does not write
        return json.dumps(rows, separators=(",", ":")).encode()


def load_line(line: bytes) -> Json:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


class Decoder:
    """Decodes the events of one run, in order. ``find_text`` gives the bytes behind a hash, or None."""

    def __init__(
        self, run: RunId, find_text: Callable[[bytes], bytes | None], load: LoadValue, *, lenient: bool = False
    ) -> None:
        """``lenient``: a text that was not stored is shown as such instead of being an error."""
        self.run = run
        self._find_text = find_text
        self._load = load
        self._lenient = lenient
        self._seq = 1
        self._legacy: legacy.Reader | None = legacy.Reader()
        self._start()

    def _start(self) -> None:
        """Another encoder wrote what follows."""
        self._started: CallStarted | None = None
        self._talks: dict[NodeId, tuple[Message, ...]] = {}
        self._shared: dict[tuple[str, ...], list[tuple[Any, ...]]] = {form.shared: [] for form in ROWS}

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
            self._seq = row
            return None
        if isinstance(row, float):
            seq, self._seq, started = self._seq, self._seq + 1, self._started
            assert started is not None
            return CallSent(run=self.run, node=started.node, at_s=row, seq=seq, call=started.call, attempt=1)
        code = row[0]
        if code == START:
            self._start()
            return None
        seq, self._seq = self._seq, self._seq + 1
        event = self._read_row(_ROWS[code], row, seq) if code in _ROWS else self._read_general(code, row[1], seq)
        if isinstance(event, CallStarted):
            self._started = event
            if event.role == "node":
                self._talks[event.node] = event.request.messages
        elif isinstance(event, NodeFinished):
            self._talks.pop(event.node, None)
        return event

    def _read_general(self, name: str, row: Json, seq: int) -> AnyEvent | None:
        if name not in KINDS:
            return None
        cls = KINDS[name]
        if name in OLD_KINDS and OLD_KINDS[name][0] in row:
            cls = OLD_KINDS[name][1]
        values = Fields({column.name: column for column in columns_of(cls)}).read(self, row)
        event: AnyEvent = cls(run=self.run, seq=seq, **values)
        return event

    def _read_row(self, form: RowForm, row: list[Json], seq: int) -> AnyEvent:
        known, shared = self._shared[form.shared], row[-1]
        if isinstance(shared, int):
            return form.read(self, row, known[shared], seq)
        if len(known) >= MAX_SHARED:
            known.clear()
        known.append(form.read_shared(self, shared))
        return form.read(self, row, known[-1], seq)

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
        assert _read_message is not None
        message: Message = _read_message(self, written)
        return message

    def text(self, written: Json) -> str:
        return written if isinstance(written, str) else self._bytes(written).decode("utf-8", "surrogatepass")

    def data(self, written: Json) -> bytes:
        return self._bytes(written)

    def value(self, written: Json) -> object:
        if not isinstance(written, dict):
            return written
        data = self._bytes(written)
        return data.decode() if data.startswith(b"[not stored") else self._load(written["as"], data)

    def _bytes(self, written: Json) -> bytes:
        data = self._find_text(bytes.fromhex(written["#"]))
        if data is None:
            if self._lenient:
                return f"[not stored: {written.get('bytes', '?')} bytes]".encode()
            raise MissingTextError(written["#"])
        return data


_ROWS = {form.code: form for form in ROWS}


def ended_with(line: bytes) -> str | None:
    """The status of a run that ended in this line, otherwise None."""
    if b'["RunFinished"' not in line:
        return None
    rows = load_line(line)
    name, *rest = rows if isinstance(rows[0], str) else rows[-1]
    return str(rest[0]["status"]) if name == "RunFinished" else None
