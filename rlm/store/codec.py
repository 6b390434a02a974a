"""Events as JSON and back. Long texts stand apart, by the hash of their content; a conversation stands as what it grew by.

Built from the types themselves: a new event, or a new field with a default, needs no line here. It must not know of databases.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, TypeAlias, Union

import orjson

from rlm.core import cells, events, messages
from rlm.core.events import AnyEvent, CallStarted
from rlm.core.ids import CallId, NodeId, RunId
from rlm.core.messages import Message
from rlm.store.brief import FROM_BRIEF, to_brief

LONG_CHARS = 1000  # a text longer than this stands apart: a shorter one costs less than a row of its own
CONTENT = frozenset(
    {
        "question",
        "context",
        "content",
        "text",
        "code",
        "stdout",
        "stderr",
        "echo",
        "error",
        "traceback",
        "notes",
        "notice",
        "message",
    }
    | {"reason", "variables", "name", "value", "answer", "schema", "stop"}
)
"""Fields that hold what people and models wrote: with ``keep_texts`` off nothing of them is kept but hash and length."""

Json: TypeAlias = Any
Encode: TypeAlias = Callable[[Any], Json]
Decode: TypeAlias = Callable[[Json], Any]
DumpValue: TypeAlias = Callable[[object], tuple[str, bytes]]
LoadValue: TypeAlias = Callable[[str, bytes], object]

KINDS: dict[str, type[AnyEvent]] = {kind.__name__: kind for kind in typing.get_args(AnyEvent)}
_NAMESPACE = {**vars(messages), **vars(cells), **vars(events), "NodeId": NodeId, "CallId": CallId}


_HINTS: dict[type[Any], dict[str, Any]] = {}
"""Of the classes met so far: every run has an encoder of its own, and this takes longer than the rest of making one."""


def _hints_of(cls: type[Any]) -> dict[str, Any]:
    if cls not in _HINTS:
        _HINTS[cls] = typing.get_type_hints(cls, _NAMESPACE)
    return _HINTS[cls]


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
        self._keep_texts = keep_texts
        self._talks: dict[NodeId, tuple[CallId, tuple[Message, ...]]] = {}
        self.texts: dict[bytes, bytes] = {}
        self._encoders: dict[type[AnyEvent], Encode] = {}  # made when they are needed: most runs need few

    def encode_short(self, event: AnyEvent) -> bytes | None:
        """The events that come by the thousand; None for what has to go through ``encode``. In any order, on any thread."""
        if not self._keep_texts or (brief := to_brief(event, LONG_CHARS)) is None:
            return None
        try:
            return orjson.dumps(brief)
        except TypeError:  # a lone surrogate
            return None

    def encode(self, event: AnyEvent) -> bytes:
        encode = self._encoders.get(type(event))
        if encode is None:
            encode = self._encoders[type(event)] = self._of_class(type(event))
        encoded = encode(event)
        if isinstance(event, CallStarted):
            self._shorten_talk(event, encoded)
        elif isinstance(event, events.NodeFinished):
            self._talks.pop(event.node, None)
        return orjson.dumps([type(event).__name__, encoded])

    def take_texts(self) -> dict[bytes, bytes]:
        texts, self.texts = self.texts, {}
        return texts

    def _shorten_talk(self, event: CallStarted, encoded: Json) -> None:
        talk = event.request.messages
        kept, since = 0, self._talks.get(event.node) if event.role == "node" else None
        if since is not None:
            while kept < min(len(talk), len(since[1])) and talk[kept] is since[1][kept]:
                kept += 1
            encoded["request"]["since"] = [since[0], kept]
        encoded["request"]["messages"] = [[each.role, self._text(each.content)] for each in talk[kept:]]
        if event.role == "node":
            self._talks[event.node] = (event.call, talk)

    def _text(self, text: str) -> Json:
        """A text, or ``{"#": its hash}``."""
        if self._keep_texts and len(text) <= LONG_CHARS:
            return text if text.isascii() or _is_sound(text) else self._apart(text.encode("utf-8", "surrogatepass"))
        return self._apart(text.encode("utf-8", "surrogatepass"))

    def _apart(self, data: bytes, kind: str | None = None) -> Json:
        digest = hash_text(data)
        if self._keep_texts:
            self.texts[digest] = data
            return {"#": digest.hex()} if kind is None else {"#": digest.hex(), "as": kind}
        return {"#": digest.hex(), "bytes": len(data)} if kind is None else {"#": "", "as": kind}

    def _value(self, value: object) -> Json:
        if value is None or (isinstance(value, bool) and self._keep_texts):
            return value
        kind, data = self._dump(value)
        return self._apart(data, kind)

    def _of_class(self, cls: type[Any]) -> Encode:
        hints = _hints_of(cls)
        parts: list[tuple[str, Encode | None]] = []
        for each in dataclasses.fields(cls):
            if each.name == "messages":
                continue
            parts.append((each.name, self._of_type(hints[each.name], content=each.name in CONTENT)))
        plain = [name for name, encode in parts if encode is None]
        special = [(name, encode) for name, encode in parts if encode is not None]

        def encode_object(thing: Any) -> Json:
            made = {name: getattr(thing, name) for name in plain}
            for name, encode in special:
                value = getattr(thing, name)
                made[name] = None if value is None else encode(value)
            return made

        return encode_object

    def _of_type(self, hint: Any, *, content: bool) -> Encode | None:
        """None for what JSON has itself."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (Union, types.UnionType):
            inner = [each for each in arguments if each is not type(None)]
            return self._of_type(inner[0], content=content) if len(inner) == 1 else None
        if hint is str or (isinstance(hint, typing.NewType) and content):
            return self._text if content else None
        if hint is object:
            return self._value
        if dataclasses.is_dataclass(hint):
            return self._of_class(typing.cast("type[Any]", hint))
        if origin is tuple:
            each = self._of_type(arguments[0], content=content)
            return (lambda items: [each(item) for item in items]) if each else None
        if content and origin in (Mapping, dict, Sequence):
            return lambda value: value if self._keep_texts else {}
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
        self._decoders = {name: self._of_class(kind) for name, kind in KINDS.items()}

    def decode(self, data: bytes) -> AnyEvent | None:
        """The event; None for one of a kind that this version does not know.

        Raises:
            MissingTextError: a text was not kept.
        """
        name, encoded = orjson.loads(data)
        if name in FROM_BRIEF:
            return FROM_BRIEF[name](self._run, encoded)
        decode = self._decoders.get(name)
        if decode is None:
            return None
        if name == "CallStarted":
            talk = self._talk(encoded["request"])
            encoded["request"]["messages"] = talk
            self._talks[encoded["call"]] = talk
        event: AnyEvent = decode(encoded)
        return event

    def _talk(self, request: Json) -> tuple[Message, ...]:
        since = request.pop("since", None)
        before = self._talks.get(since[0], ())[: since[1]] if since else ()
        return (*before, *(Message(role, self._text(text)) for role, text in request["messages"]))

    def _text(self, encoded: Json) -> str:
        if isinstance(encoded, str):
            return encoded
        return self._bytes(encoded).decode("utf-8", "surrogatepass")

    def _bytes(self, encoded: Json) -> bytes:
        found = self._find_text(bytes.fromhex(encoded["#"]))
        if found is None:
            if self._lenient:
                return f"[not kept: {encoded.get('bytes', '?')} bytes]".encode()
            raise MissingTextError(encoded["#"])
        return found

    def _value(self, encoded: Json) -> object:
        if not isinstance(encoded, dict):
            return encoded
        data = self._bytes(encoded)
        return data.decode() if data.startswith(b"[not kept") else self._load(encoded["as"], data)

    def _of_class(self, cls: type[Any]) -> Decode:
        hints = _hints_of(cls)
        names = {each.name for each in dataclasses.fields(cls)}
        special = {
            name: decode
            for name in names - {"messages"}
            if (decode := self._of_type(hints[name], content=name in CONTENT)) is not None
        }

        def decode_object(encoded: Json) -> Any:
            made = {name: value for name, value in encoded.items() if name in names}
            for name, decode in special.items():
                if made.get(name) is not None:
                    made[name] = decode(made[name])
            return cls(**made)

        return decode_object

    def _of_type(self, hint: Any, *, content: bool) -> Decode | None:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (Union, types.UnionType):
            inner = [each for each in arguments if each is not type(None)]
            return self._of_type(inner[0], content=content) if len(inner) == 1 else None
        if hint is str or (isinstance(hint, typing.NewType) and content):
            return self._text if content else None
        if hint is object:
            return self._value
        if dataclasses.is_dataclass(hint):
            return self._of_class(typing.cast("type[Any]", hint))
        if origin is tuple:
            each = self._of_type(arguments[0], content=content) or (lambda item: item)
            return lambda items: tuple(each(item) for item in items)
        return None
