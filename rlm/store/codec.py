"""Events as JSON and back. Long texts stand apart, by the hash of their content; a conversation stands as what it grew by.

Built from the types themselves: a new event, or a new field with a default, needs no line here. It must not know of databases.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, Union

import orjson

from rlm.core import cells, events, messages, subcalls
from rlm.core.events import AnyEvent, CallStarted, NodeFinished, RunFinished
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message
from rlm.store.brief import LONG_CHARS, BriefReader, BriefWriter, ConversationDiff, Entry

LARGE_INT = 1 << 53  # not every JSON has larger ones
CONTENT = frozenset({
    "question", "context", "content", "text", "code", "stdout", "stderr", "echo", "error", "traceback", "notes", "notice",
    "message", "reason", "variables", "name", "type", "value", "answer", "schema", "stop",
})  # fmt: skip
"""Fields that hold what people and models wrote: with ``keep_texts`` off nothing of them is kept but hash and length."""

Json: TypeAlias = Any
DumpValue: TypeAlias = Callable[[object], tuple[str, bytes]]
LoadValue: TypeAlias = Callable[[str, bytes], object]

KINDS: dict[str, type[AnyEvent]] = {kind.__name__: kind for kind in typing.get_args(AnyEvent)}
_NAMESPACE = {**vars(messages), **vars(cells), **vars(subcalls), **vars(events), "NodeId": NodeId, "CallId": CallId}


class MissingTextError(LookupError):
    """A text is referred to and not there: it was not kept, or its row is gone."""


def hash_text(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


class Encoder:
    """Encodes the events of one run, in order. Texts that stand apart gather, until they are taken.

    ``status`` is how the run ended, once that was encoded. ``dump`` makes bytes of plain data whose types must come back.
    """

    def __init__(self, dump: DumpValue, *, keep_texts: bool = True) -> None:
        self._dump = dump
        self.keep_texts = keep_texts
        self.status: str | None = None
        self._texts: dict[bytes, bytes] = {}
        self._talks = ConversationDiff()
        self._write: dict[type[AnyEvent], Callable[[Any], Entry | None]] = dict.fromkeys(KINDS.values(), self._whole)
        if keep_texts:
            self._write |= BriefWriter(self.text, self.value, self._whole, self._talks).forms
        else:
            self._write |= {CallStarted: self._started, NodeFinished: self._node_finished}
        self._write[RunFinished] = self._finished

    def encode(self, events: deque[AnyEvent]) -> bytes:
        """A line for all ``events``, which are taken out of it; empty where there is nothing to keep of them.

        Others may append meanwhile; what they append is left for the next line.
        """
        write, take = self._write, events.popleft
        made = [entry for _ in range(len(events)) if (entry := write[type(event := take())](event)) is not None]
        return _dump(made) if made else b""

    def _started(self, event: CallStarted) -> Entry:
        return self._whole(event, self._talks.before(event) if event.role == "node" else None)

    def _node_finished(self, event: NodeFinished) -> Entry:
        self._talks.end(event.node)
        return self._whole(event)

    def _finished(self, event: RunFinished) -> Entry:
        self.status = event.status
        return self._whole(event)

    def _whole(self, event: AnyEvent, since: tuple[CallId, int] | None = None) -> Entry:
        """Its general form; ``since``: an earlier call, of whose messages it still has the first so many."""
        write = FORMS[type(event)].write
        assert write is not None
        encoded = write(self, event)
        if isinstance(event, CallStarted):
            talk = event.request.messages[0 if since is None else since[1] :]
            write_message = FORMS[Message].write
            assert write_message is not None
            encoded["request"]["messages"] = [write_message(self, message) for message in talk]
            encoded["request"]["since"] = since
        return type(event).__name__, encoded

    def take_texts(self) -> dict[bytes, bytes]:
        texts, self._texts = self._texts, {}
        return texts

    def text(self, text: str) -> Json:
        """A text, or ``{"#": its hash}``."""
        if self.keep_texts and len(text) <= LONG_CHARS:
            return text
        return self._apart(text.encode("utf-8", "surrogatepass"))

    def value(self, value: object) -> Json:
        """Plain data, with its types."""
        if self.keep_texts and _is_as_json_has_it(value):
            return value
        kind, data = self._dump(value)
        return self._apart(data, kind)

    def _apart(self, data: bytes, kind: str | None = None) -> Json:
        digest = hash_text(data)
        if self.keep_texts:
            self._texts[digest] = data
            return {"#": digest.hex()} if kind is None else {"#": digest.hex(), "as": kind}
        return {"#": digest.hex(), "bytes": len(data)} if kind is None else {"#": "", "as": kind}


def _is_as_json_has_it(value: object) -> bool:
    """Whether a value needs nothing beside its line, to come back as it was."""
    kind = type(value)
    if kind is str:
        return len(typing.cast("str", value)) <= LONG_CHARS
    if kind is int:
        return -LARGE_INT < typing.cast("int", value) < LARGE_INT
    return kind is bool or (kind is float and math.isfinite(typing.cast("float", value)))


def _dump(made: Json) -> bytes:
    try:
        return orjson.dumps(made)
    except TypeError:  # a lone surrogate, which it does not write
        return json.dumps(made, separators=(",", ":")).encode()


def _load(line: bytes) -> Json:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return json.loads(line)


class Decoder:
    """Decodes the events of one run, in order. ``find_text`` gives the bytes behind a hash, or None."""

    def __init__(
        self, run: RunId, find_text: Callable[[bytes], bytes | None], load: LoadValue, *, lenient: bool = False
    ) -> None:
        """``lenient``: a text that was not kept is shown as such instead of being an error."""
        self._find_text = find_text
        self._load = load
        self._lenient = lenient
        self._brief = BriefReader(run, self.text, self.value)

    def decode(self, line: bytes) -> list[AnyEvent]:
        """The events of a line; those of kinds that this version does not know are left out.

        Raises:
            MissingTextError: a text was not kept.
        """
        return [event for name, *fields in _entries(line) if (event := self._read(name, fields)) is not None]

    def _read(self, name: str, fields: Json) -> AnyEvent | None:
        if name in self._brief.forms:
            return self._brief.forms[name](fields)
        if name not in KINDS:
            return None
        (encoded,) = fields
        if name == "CallStarted":
            request = encoded["request"]
            new = map(self._message, request["messages"])
            request["messages"] = (*self._brief.before(request.pop("since", None)), *new)
        read = FORMS[KINDS[name]].read
        assert read is not None
        event: AnyEvent = read(self, encoded)
        return self._brief.note(event) if isinstance(event, CallStarted) else event

    def _message(self, encoded: Json) -> Message:
        """A message; earlier versions wrote a list of role and text."""
        if isinstance(encoded, list):
            role, text = encoded
            return Message(role, self.text(text))
        read = FORMS[Message].read
        assert read is not None
        message: Message = read(self, encoded)
        return message

    def text(self, encoded: Json) -> str:
        if isinstance(encoded, str):
            return encoded
        return self._bytes(encoded).decode("utf-8", "surrogatepass")

    def value(self, encoded: Json) -> object:
        if not isinstance(encoded, dict):
            return encoded
        data = self._bytes(encoded)
        return data.decode() if data.startswith(b"[not kept") else self._load(encoded["as"], data)

    def _bytes(self, encoded: Json) -> bytes:
        found = self._find_text(bytes.fromhex(encoded["#"]))
        if found is None:
            if self._lenient:
                return f"[not kept: {encoded.get('bytes', '?')} bytes]".encode()
            raise MissingTextError(encoded["#"])
        return found


def _entries(line: bytes) -> Json:
    """Kind and fields of each event; in schema 1 every event had a line of its own, and its fields a list."""
    loaded = _load(line)
    if not isinstance(loaded[0], str):
        return loaded
    name, fields = loaded
    return [[name, *fields] if isinstance(fields, list) else loaded]


def ended_with(line: bytes) -> str | None:
    """How the run ended, if this is the line of its end."""
    if b'["RunFinished"' not in line:
        return None
    name, encoded = _entries(line)[-1]
    return encoded["status"] if name == "RunFinished" else None


class Form(NamedTuple):
    """How things of one type are written and read; None where JSON has them as they are."""

    write: Callable[[Encoder, Any], Json] | None = None
    read: Callable[[Decoder, Json], Any] | None = None


TEXT = Form(Encoder.text, Decoder.text)


class _Forms(dict[type[Any], Form]):
    """Made when they are needed: most processes meet few."""

    def __missing__(self, cls: type[Any]) -> Form:
        self[cls] = form = _form_of_class(cls)
        return form


FORMS = _Forms()


def _form_of_class(cls: type[Any]) -> Form:
    """An object is its fields by name. ``messages`` are left to whoever knows what the conversation was before."""
    hints = typing.get_type_hints(cls, _NAMESPACE)
    names = [each.name for each in dataclasses.fields(cls)]
    forms = {name: _form_of_type(hints[name], name in CONTENT) for name in names if name != "messages"}
    written = list(forms)
    texts = [name for name, form in forms.items() if form is TEXT]
    writers = [(name, form.write) for name, form in forms.items() if form.write is not None and form is not TEXT]
    readers = [(name, form.read) for name, form in forms.items() if form.read is not None]
    get = attrgetter(*written) if len(written) > 1 else lambda thing: [getattr(thing, name) for name in written]

    def write(encoder: Encoder, thing: Any) -> Json:
        made = dict(zip(written, get(thing), strict=True))
        for name in texts:
            text = made[name]
            if text and (len(text) > LONG_CHARS or not encoder.keep_texts):
                made[name] = encoder.text(text)
        for name, each in writers:
            if made[name] is not None:
                made[name] = each(encoder, made[name])
        return made

    def read(decoder: Decoder, encoded: Json) -> Any:
        made = {name: encoded[name] for name in names if name in encoded}
        for name, each in readers:
            if made.get(name) is not None:
                made[name] = each(decoder, made[name])
        return cls(**made)

    return Form(write, read)


def _form_of_type(hint: Any, content: bool) -> Form:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        inner = [each for each in arguments if each is not type(None)]
        return _form_of_type(inner[0], content) if len(inner) == 1 else Form()
    if content and (hint is str or isinstance(hint, typing.NewType)):
        return TEXT
    if hint is object:
        return Form(Encoder.value, Decoder.value)
    if dataclasses.is_dataclass(hint):
        return FORMS[typing.cast("type[Any]", hint)]
    if origin is tuple:
        return _form_of_tuple(_form_of_type(arguments[0], content))
    if content and origin in (Mapping, dict, Sequence):
        return Form(lambda encoder, value: value if encoder.keep_texts else {})
    return Form()


def _form_of_tuple(item: Form) -> Form:
    write, read = item
    return Form(
        None if write is None else lambda encoder, items: [write(encoder, each) for each in items],
        (lambda _, items: tuple(items))
        if read is None
        else lambda decoder, items: tuple(read(decoder, each) for each in items),
    )
