"""Events as JSON and back. Long texts stand apart, by the hash of their content; a conversation stands as what it grew by.

Built from the types themselves: a new event, or a new field with a default, needs no line here. It must not know of databases.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias, Union

import orjson

from rlm.core import cells, events, messages
from rlm.core.events import AnyEvent, CallSent, CallStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message
from rlm.store.brief import FROM_BRIEF, TO_BRIEF, TURN, Brief, turn_from_brief, turn_to_brief

LONG_CHARS = 1000  # a text longer than this stands apart: a shorter one costs less than a row of its own
AT_ONCE_S = 0.001
CONTENT = frozenset({
    "question", "context", "content", "text", "code", "stdout", "stderr", "echo", "error", "traceback", "notes", "notice",
    "message", "reason", "variables", "name", "type", "value", "answer", "schema", "stop",
})  # fmt: skip
"""Fields that hold what people and models wrote: with ``keep_texts`` off nothing of them is kept but hash and length."""

Json: TypeAlias = Any
DumpValue: TypeAlias = Callable[[object], tuple[str, bytes]]
LoadValue: TypeAlias = Callable[[str, bytes], object]

KINDS: dict[str, type[AnyEvent]] = {kind.__name__: kind for kind in typing.get_args(AnyEvent)}
_NAMESPACE = {**vars(messages), **vars(cells), **vars(events), "NodeId": NodeId, "CallId": CallId}


class MissingTextError(LookupError):
    """A text is referred to and not there: it was not kept, or its row is gone."""


def hash_text(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


class Encoder:
    """Encodes the events of one run, in order. ``texts`` are those found since they were last taken, by hash.

    ``dump`` makes bytes of plain data whose types must come back.
    """

    def __init__(self, dump: DumpValue, *, keep_texts: bool = True) -> None:
        self._dump = dump
        self.keep_texts = keep_texts
        self._talks: dict[NodeId, tuple[CallId, tuple[Message, ...]]] = {}
        self._begun: dict[CallId, float] = {}
        self.texts: dict[bytes, bytes] = {}

    def encode(self, event: AnyEvent) -> bytes | None:
        """A line; None for an event that need not be kept.

        That a call left is kept where it had to wait for it, or left again: else it says nothing that its beginning does not.
        """
        if isinstance(event, CallStarted):
            self._begun[event.call] = event.at_s
            if event.role == "node":
                return self._encode_turn(event)
        elif isinstance(event, CallSent):
            if event.at_s - self._begun.pop(event.call, 0.0) < AT_ONCE_S and event.attempt == 1:
                return None
        elif isinstance(event, events.NodeFinished):
            self._talks.pop(event.node, None)
        to_brief = TO_BRIEF.get(type(event)) if self.keep_texts else None
        return (to_brief and _line(to_brief(event, self.text))) or self._encode_whole(event)

    def _encode_turn(self, event: CallStarted) -> bytes:
        """Of a conversation, what it has more than at the turn before."""
        talk, known, kept = event.request.messages, self._talks.get(event.node), 0
        self._talks[event.node] = (event.call, talk)
        since = None
        if known is not None:
            call, before = known
            kept = len(before)
            if talk[:kept] != before:  # it was compacted
                pairs = zip(talk, before, strict=False)
                kept = next((n for n, (one, other) in enumerate(pairs) if one != other), len(talk))
            since = (call, kept)
        brief = turn_to_brief(event, self.text, talk[kept:], since) if self.keep_texts else None
        return _line(brief) or self._encode_whole(event, since)

    def _encode_whole(self, event: AnyEvent, since: tuple[CallId, int] | None = None) -> bytes:
        write = FORMS[type(event)].write
        assert write is not None
        encoded = write(self, event)
        if isinstance(event, CallStarted):
            talk = event.request.messages[0 if since is None else since[1] :]
            encoded["request"]["messages"] = [[each.role, self.text(each.content)] for each in talk]
            encoded["request"]["since"] = since
        return orjson.dumps([type(event).__name__, encoded])

    def take_texts(self) -> dict[bytes, bytes]:
        texts, self.texts = self.texts, {}
        return texts

    def text(self, text: str) -> Json:
        """A text, or ``{"#": its hash}``."""
        if self.keep_texts and len(text) <= LONG_CHARS:
            return text if text.isascii() or _is_sound(text) else self._apart(text.encode("utf-8", "surrogatepass"))
        return self._apart(text.encode("utf-8", "surrogatepass"))

    def value(self, value: object) -> Json:
        """Plain data, with its types."""
        if isinstance(value, bool) and self.keep_texts:
            return value
        kind, data = self._dump(value)
        return self._apart(data, kind)

    def _apart(self, data: bytes, kind: str | None = None) -> Json:
        digest = hash_text(data)
        if self.keep_texts:
            self.texts[digest] = data
            return {"#": digest.hex()} if kind is None else {"#": digest.hex(), "as": kind}
        return {"#": digest.hex(), "bytes": len(data)} if kind is None else {"#": "", "as": kind}


def _line(brief: Brief | None) -> bytes | None:
    try:
        return None if brief is None else orjson.dumps(brief)
    except TypeError:  # a lone surrogate where hardly anybody writes one
        return None


def _is_sound(text: str) -> bool:
    """Whether it can be written as UTF-8: a lone surrogate cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Decoder:
    """Decodes the events of one run, in order. ``find_text`` gives the bytes behind a hash, or None."""

    def __init__(
        self, run: RunId, find_text: Callable[[bytes], bytes | None], load: LoadValue, *, lenient: bool = False
    ) -> None:
        """``lenient``: a text that was not kept is shown as such instead of being an error."""
        self._run = run
        self._find_text = find_text
        self._load = load
        self._lenient = lenient
        self._talks: dict[str, tuple[Message, ...]] = {}

    def decode(self, data: bytes) -> AnyEvent | None:
        """The event; None for one of a kind that this version does not know.

        Raises:
            MissingTextError: a text was not kept.
        """
        name, encoded = orjson.loads(data)
        if name == TURN:
            turn = turn_from_brief(self._run, encoded, self.text, self._before)
            self._talks[turn.call] = turn.request.messages
            return turn
        if name in FROM_BRIEF:
            return FROM_BRIEF[name](self._run, encoded, self.text)
        if name not in KINDS:
            return None
        if name == "CallStarted":
            request = encoded["request"]
            new = (Message(role, self.text(text)) for role, text in request["messages"])
            request["messages"] = self._talks[encoded["call"]] = (*self._before(request.pop("since", None)), *new)
        read = FORMS[KINDS[name]].read
        assert read is not None
        event: AnyEvent = read(self, encoded)
        return event

    def _before(self, since: Sequence[Any] | None) -> tuple[Message, ...]:
        return self._talks.get(since[0], ())[: since[1]] if since else ()

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


def ended_with(line: bytes) -> str | None:
    """How the run ended, if this is the line of its end."""
    return orjson.loads(line)[1]["status"] if line.startswith(b'["RunFinished"') else None


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
            if text and (len(text) > LONG_CHARS or not text.isascii() or not encoder.keep_texts):
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
