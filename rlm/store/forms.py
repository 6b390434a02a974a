"""Forms of events as JSON, derived from the dataclasses: a new field needs no line here, and cannot be lost.

Most kinds of events are an object with the fields that are not at their default. Kinds that come by the thousand are rows.
A row lists the values that change with every event. It refers to all other fields, which are written once for all the
events that share them. A field that a row does not list is among the others.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

from rlm.core import messages
from rlm.core.events import AnyEvent, CallReplied, CallSent, CallStarted, CellExecuted, CellStarted, SubcallEnded
from rlm.core.values import slotted

if TYPE_CHECKING:
    from rlm.store.codec import Decoder, Encoder

Json: TypeAlias = Any
Write: TypeAlias = Callable[["Encoder", Any], Json]
Read: TypeAlias = Callable[["Decoder", Json], Any]

KINDS: dict[str, type[AnyEvent]] = {kind.__name__: kind for kind in typing.get_args(AnyEvent)}
CONTENT = frozenset({
    "question", "context", "content", "text", "code", "stdout", "stderr", "echo", "error", "traceback", "notes", "notice",
    "message", "reason", "variables", "name", "type", "value", "answer", "schema", "stop",
    "quote", "path", "place", "side_table",
})  # fmt: skip
"""Fields that hold what people and models wrote: without texts, only hash and length of them are stored."""

IMPLIED = frozenset({"run", "seq"})  # of every event: a journal has one run, and its lines count
MESSAGES = "request.messages"  # written by the codec, which knows the conversation
MAX_SHARED = 1000  # sets of shared fields that both sides remember
LONG_CHARS = 1000  # a longer text is stored apart: a shorter one costs less than a row of its own
_PLAIN = (str, int, float, bool)


class Coder(NamedTuple):
    """Writes and reads values of one type; None if JSON has them as they are."""

    write: Write | None = None
    read: Read | None = None


class Column(NamedTuple):
    """One field of an object. ``default`` is MISSING if it has none; ``plain`` is its type, if equality decides."""

    name: str
    default: Any
    plain: type | None
    coder: Coder
    hint: Any


TEXT = Coder(lambda encoder, text: encoder.text(text), lambda decoder, text: decoder.text(text))


def _columns_of(cls: type[Any]) -> tuple[Column, ...]:
    hints = typing.get_type_hints(cls, None, vars(messages))  # JsonValue names itself
    columns = []
    for field in dataclasses.fields(cls):
        if field.name not in IMPLIED:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            plain = type(default) if type(default) in _PLAIN else None
            hint = hints[field.name]
            columns.append(Column(field.name, default, plain, coder_of(hint, field.name in CONTENT), hint))
    return tuple(columns)


columns_of: Callable[[type[Any]], tuple[Column, ...]] = cache(_columns_of)  # type: ignore[assignment]


def is_default(value: object, column: Column) -> bool:
    return value is column.default or (type(value) is column.plain and value == column.default)


class Fields:
    """Writes and reads values by key, without those at their default."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = columns
        self._defaults = tuple(column.default for column in columns.values())

    def write(self, encoder: Encoder, values: Iterable[Any]) -> dict[str, Json]:
        columns, row = self.columns, {}
        for key, value, default in zip(columns, values, self._defaults, strict=True):
            if value is not default and not is_default(value, column := columns[key]):
                write = column.coder.write
                row[key] = value if write is None else write(encoder, value)
        return row

    def read(self, decoder: Decoder, row: Mapping[str, Json]) -> dict[str, Any]:
        """The values of the fields that this version knows."""
        values = {}
        for key, value in row.items():
            if (column := self.columns.get(key)) is not None:
                read = column.coder.read
                values[key] = value if read is None else read(decoder, value)
        return values


def _coder_of_class(cls: type[Any]) -> Coder:
    fields = Fields({column.name: column for column in columns_of(cls)})
    # With one name, an attribute getter returns no tuple.
    get = attrgetter(*fields.columns) if len(fields.columns) > 1 else lambda thing: [getattr(thing, *fields.columns)]
    return Coder(
        lambda encoder, thing: fields.write(encoder, get(thing)),
        lambda decoder, row: cls(**fields.read(decoder, row)),
    )


class _Coders(dict[type[Any], Coder]):
    """Compiled on first use: most processes meet few classes."""

    def __missing__(self, cls: type[Any]) -> Coder:
        self[cls] = coder = _coder_of_class(cls)
        return coder


CODERS = _Coders()


def coder_of(hint: Any, content: bool) -> Coder:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, typing.NewType):
        return coder_of(hint.__supertype__, content)
    if origin in {Union, types.UnionType}:
        return _optional(_coder_of_union([inner for inner in arguments if inner is not type(None)], content))
    if hint is str and content:
        return TEXT
    if hint is bytes:
        return Coder(lambda encoder, data: encoder.data(data), lambda decoder, data: decoder.data(data))
    if hint is object:
        return Coder(lambda encoder, value: encoder.value(value), lambda decoder, value: decoder.value(value))
    if dataclasses.is_dataclass(hint):
        return CODERS[typing.cast("type[Any]", hint)]
    if origin is tuple:
        return _coder_of_tuple(arguments, content)
    if content and origin is not None and issubclass(origin, Mapping | Sequence):
        return Coder(lambda encoder, value: value if encoder.keep_texts else {})
    return Coder()


def _optional(coder: Coder) -> Coder:
    write, read = coder
    return Coder(
        None if write is None else lambda encoder, value: None if value is None else write(encoder, value),
        None if read is None else lambda decoder, value: None if value is None else read(decoder, value),
    )


def _coder_of_union(members: Sequence[Any], content: bool) -> Coder:
    """Several classes, distinguished by name."""
    if len(members) == 1:
        return coder_of(members[0], content)
    if len(members) == 2 and members[0] is str and typing.get_origin(members[1]) is tuple:
        return _coder_of_text_or_items(coder_of(str, content), coder_of(members[1], content))
    if not all(map(dataclasses.is_dataclass, members)):
        return Coder()
    classes = {member.__name__: member for member in members}

    def write(encoder: Encoder, thing: Any) -> Json:
        write_thing = CODERS[type(thing)].write
        assert write_thing is not None
        return type(thing).__name__, write_thing(encoder, thing)

    def read(decoder: Decoder, row: Json) -> Any:
        read_thing = CODERS[classes[row[0]]].read
        assert read_thing is not None
        return read_thing(decoder, row[1])

    return Coder(write, read)


def _coder_of_text_or_items(text: Coder, items: Coder) -> Coder:
    """A text, or a tuple, which is a list in JSON; a text never is."""

    def write(encoder: Encoder, value: Any) -> Json:
        coder = text if isinstance(value, str) else items
        return value if coder.write is None else coder.write(encoder, value)

    def read(decoder: Decoder, value: Json) -> Any:
        coder = items if isinstance(value, list) else text
        return value if coder.read is None else coder.read(decoder, value)

    return Coder(write, read)


def _coder_of_tuple(arguments: Sequence[Any], content: bool) -> Coder:
    if arguments[-1] is not Ellipsis:
        coders = [coder_of(argument, content) for argument in arguments]
        return Coder(
            lambda encoder, items: [
                item if coder.write is None else coder.write(encoder, item)
                for coder, item in zip(coders, items, strict=True)
            ],
            lambda decoder, items: tuple(
                item if coder.read is None else coder.read(decoder, item)
                for coder, item in zip(coders, items, strict=True)
            ),
        )
    write, read = coder_of(arguments[0], content)
    return Coder(
        None if write is None else lambda encoder, items: [write(encoder, item) for item in items],
        (lambda _, items: tuple(items))
        if read is None
        else lambda decoder, items: tuple([read(decoder, item) for item in items]),
    )


@slotted
class SharedRows:
    """Sets of shared fields that were written, with their numbers, and the last one that was used."""

    numbers: dict[object, int] = dataclasses.field(default_factory=dict)
    last: tuple[Any, ...] | None = None
    last_number: int = 0

    def find(self, values: tuple[Any, ...]) -> bool:
        """Makes ``values`` the last ones that were used. False if they are new, and have to be written."""
        numbers = self.numbers
        key: object = values
        try:
            number = numbers.get(key)
        except TypeError:  # a schema has no hash
            key = repr(values)
            number = numbers.get(key)
        if is_new := number is None:
            if len(numbers) >= MAX_SHARED:
                numbers.clear()
            number = numbers[key] = len(numbers)
        self.last, self.last_number = values, number
        return not is_new


class Part(NamedTuple):
    """An object inside an event of a row form: the event itself has the path ""."""

    path: str
    cls: type[Any]
    parent: str
    name: str


class RowForm:
    """A kind of event as a row: ``code``, the values at ``own`` paths, and the shared fields or a reference to them.

    A path such as "reply.usage.calls" leads through the objects in an event. Shared are all fields that no own path names.
    """

    def __init__(self, code: str, kind: type[AnyEvent], *own: str) -> None:
        self.code = code
        self.kind = kind
        self.own = own
        self.parts: list[Part] = []
        self._columns: dict[str, Column] = {}
        self._expand(kind, "", "", "")
        self.shared = tuple(path for path in self._columns if path not in own)
        self.fields = Fields({path: self._columns[path] for path in self.shared})

    def _expand(self, cls: type[Any], path: str, parent: str, name: str) -> None:
        self.parts.insert(0, Part(path, cls, parent, name))  # inner objects come before outer ones
        for column in columns_of(cls):
            inner = f"{path}.{column.name}" if path else column.name
            # Objects are compared field by field: their own comparison can leave some fields out.
            if any(own.startswith(f"{inner}.") for own in self.own) or (
                dataclasses.is_dataclass(column.hint) and inner not in self.own
            ):
                self._expand(_class_in(column.hint), inner, path, column.name)
            else:
                self._columns[inner] = column

    @cached_property
    def _make_writer(self) -> Callable[..., Callable[[Any], Json]]:
        """Makes the writer of one encoder."""
        body = [f"{_variable(part.path)} = {_access(part.parent, part.name)}" for part in reversed(self.parts[:-1])]
        shared = "".join(f"{_access(*_split(path))}, " for path in self.shared)
        body += [
            f"shared = ({shared})",
            "reference = rows.last_number if shared == rows.last or find(shared) else write_shared(encoder, shared)",
        ]
        values = []
        for at, path in enumerate(self.own):
            value, coder = _access(*_split(path)), self._columns[path].coder
            if path == MESSAGES:
                value = f"messages(event.node, {value})"
            elif coder is TEXT:
                body += [f"text_{at} = {value}", f"if len(text_{at}) > long_chars: text_{at} = text(text_{at})"]
                value = f"text_{at}"
            elif coder.write is not None:
                value = f"writers[{at}](encoder, {value})"
            values.append(value)
        body.append(f"return ({self.code!r}, {', '.join(values)}, reference)")
        return _compile(
            "encoder, rows, find, text, messages, long_chars, writers, write_shared",
            ["def write(event):", *(f" {line}" for line in body), "return write"],
            {},
        )

    def writer(self, encoder: Encoder, rows: SharedRows) -> Callable[[Any], Json]:
        """A function that writes such events for one encoder."""
        long_chars = LONG_CHARS if encoder.keep_texts else -1
        writers = [self._columns[path].coder.write for path in self.own]
        return self._make_writer(
            encoder, rows, rows.find, encoder.text, encoder.messages, long_chars, writers, self.fields.write
        )

    def read_shared(self, decoder: Decoder, row: Json) -> tuple[Any, ...]:
        """The values of all shared fields, in their order."""
        values = self.fields.read(decoder, row)
        return tuple([values.get(path, column.default) for path, column in self.fields.columns.items()])

    @cached_property
    def read(self) -> Callable[[Decoder, Sequence[Json], Sequence[Any], int], AnyEvent]:
        """The event of a row, its shared values and its number: a function compiled like the writer."""
        places = {path: f"shared[{at}]" for at, path in enumerate(self.shared)}
        names: dict[str, Any] = {}
        for at, path in enumerate(self.own, start=1):
            read = names[f"read_{at}"] = self._columns[path].coder.read
            places[path] = f"row[{at}]" if read is None else f"read_{at}(decoder, row[{at}])"
        if MESSAGES in self.own:
            places[MESSAGES] = f"decoder.messages({places['node']}, row[{self.own.index(MESSAGES) + 1}])"
        body = []
        for part in self.parts:
            paths = {column.name: f"{part.path}.{column.name}".lstrip(".") for column in columns_of(part.cls)}
            values = [f"{name}={places.get(path) or _variable(path)}" for name, path in paths.items()]
            names[part.cls.__name__] = part.cls
            body.append(f"{_variable(part.path)} = {part.cls.__name__}({', '.join(values)}")
        body = [f"{line})" for line in body[:-1]] + [f"{body[-1]}, run=decoder.run, seq=seq)", "return event"]
        return _compile("decoder, row, shared, seq", body, names)


def _compile(parameters: str, body: Sequence[str], names: dict[str, Any]) -> Callable[..., Any]:
    """A function compiled from its lines, as dataclasses are: it is called for thousands of events a second."""
    exec("\n ".join([f"def compiled({parameters}):", *body]), names)  # noqa: S102  names of our own fields
    compiled: Callable[..., Any] = names["compiled"]
    return compiled


def _class_in(hint: Any) -> type[Any]:
    """The class of a field that holds an object or None."""
    members = [inner for inner in typing.get_args(hint) if inner is not type(None)] or [hint]
    return typing.cast("type[Any]", members[0])


def _variable(path: str) -> str:
    return path.replace(".", "_") or "event"


def _access(path: str, name: str) -> str:
    return f"{_variable(path)}.{name}"


def _split(path: str) -> tuple[str, str]:
    part, _, name = path.rpartition(".")
    return part, name


LEAF = RowForm("^", CallStarted, "at_s", "call", "key", MESSAGES)
TURN = RowForm("*", CallStarted, "at_s", "call", "turn", "limit", MESSAGES, "request.task.turn")
SENT = RowForm(">", CallSent, "at_s", "call", "attempt")
REPLIED = RowForm(
    "-", CallReplied, "at_s", "call", "elapsed_s", "cost_usd", "reply.text", "reply.cost_usd", "reply.usage.calls",
    "reply.usage.input_tokens", "reply.usage.cached_tokens", "reply.usage.cache_write_tokens", "reply.usage.output_tokens",
    "reply.usage.reasoning_tokens",
)  # fmt: skip
ENDED = RowForm("=", SubcallEnded, "at_s", "call", "key", "value", "failure", "elapsed_s")
CELL = RowForm("{", CellStarted, "at_s")
EXECUTED = RowForm("}", CellExecuted, "at_s", "result", "notice")
ROWS = (LEAF, TURN, SENT, REPLIED, ENDED, CELL, EXECUTED)
"""A change to the own paths of a row, or to their order, needs another code: journals keep what is written."""
