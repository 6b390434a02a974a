"""Values as JSON, by the types of the fields that hold them: a new field needs no line here, and cannot be lost.

An object is written as its fields by name, without those at their default. Long texts are stored apart, by their hash.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from hashlib import blake2b
from typing import Any, NamedTuple, TypeAlias, Union

from rlm.core import messages

Json: TypeAlias = Any
DumpValue: TypeAlias = Callable[[object], tuple[str, bytes]]
LoadValue: TypeAlias = Callable[[str, bytes], object]

CONTENT = frozenset({
    "question", "context", "content", "text", "code", "stdout", "stderr", "echo", "error", "traceback", "notes", "notice",
    "message", "reason", "variables", "name", "type", "value", "answer", "schema", "stop",
    "problems", "quote", "path", "place", "side_table",
})  # fmt: skip
"""Fields that hold what people and models wrote: without texts, only hash and length of them are stored."""

IMPLIED = frozenset({"run", "seq"})  # of every event: a journal has one run, and its lines count
LONG_CHARS = 1000  # a longer text is stored apart: a shorter one costs less than a row of its own
_JSON_TYPES = (str, int, float, bool)
LARGE_NUMBER = 1 << 53  # not every JSON has larger integers


class MissingTextError(LookupError):
    """A text that is referred to was not stored, or its row is gone."""


def hash_text(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


class ValueWriter:
    """Writes values. Texts that are stored apart gather in ``texts``, by hash.

    ``dump`` makes bytes of plain data whose types must come back.
    """

    def __init__(self, dump: DumpValue, *, keep_texts: bool) -> None:
        self._dump = dump
        self.keep_texts = keep_texts
        self.texts: dict[bytes, bytes] = {}

    def text(self, text: str) -> Json:
        """A text, or ``{"#": its hash}``."""
        if len(text) <= LONG_CHARS and self.keep_texts:
            return text
        return self.data(text.encode("utf-8", "surrogatepass"))

    def data(self, data: bytes) -> Json:
        """The hash of bytes, which are always stored apart."""
        digest = hash_text(data)
        if not self.keep_texts:
            return {"#": digest.hex(), "bytes": len(data)}
        self.texts[digest] = data
        return {"#": digest.hex()}

    def value(self, value: object) -> Json:
        """Plain data, with its types."""
        if value is None or (self.keep_texts and _is_same_in_json(value)):
            return value
        kind, data = self._dump(value)
        return {**self.data(data), "as": kind} if self.keep_texts else {"#": "", "as": kind}

    def schema(self, value: Json) -> Json:
        return value if self.keep_texts else {}

    def member(self, thing: Any) -> Json:
        """One of several classes, distinguished by name."""
        cls: Any = type(thing)
        return cls.__name__, coder_of_class(cls).write(self, thing)


def _is_same_in_json(value: object) -> bool:
    """True if a value comes back from JSON as it was."""
    if type(value) not in _JSON_TYPES:
        return False
    return len(value) <= LONG_CHARS if isinstance(value, str) else abs(typing.cast("float", value)) < LARGE_NUMBER


class ValueReader:
    """Reads values. ``find_text`` gives the bytes behind a hash, or None.

    ``lenient``: a text that was not stored is shown as such instead of being an error.
    """

    def __init__(self, find_text: Callable[[bytes], bytes | None], load: LoadValue, *, lenient: bool) -> None:
        self._find_text = find_text
        self._load = load
        self._lenient = lenient

    def text(self, written: Json) -> str:
        return written if isinstance(written, str) else self.data(written).decode("utf-8", "surrogatepass")

    def data(self, written: Json) -> bytes:
        """Raises MissingTextError."""
        data = self._find_text(bytes.fromhex(written["#"]))
        if data is None and not self._lenient:
            raise MissingTextError(written["#"])
        return f"[not stored: {written.get('bytes', '?')} bytes]".encode() if data is None else data

    def value(self, written: Json) -> object:
        if not isinstance(written, dict):
            return written
        data = self.data(written)
        return data.decode() if data.startswith(b"[not stored") else self._load(written["as"], data)


Write: TypeAlias = Callable[[Any, Any], Json]
Read: TypeAlias = Callable[[Any, Json], Any]


class Coder(NamedTuple):
    """Writes and reads values of one type; None if JSON has them as they are."""

    write: Write | None = None
    read: Read | None = None

    def written(self, value: str, names: dict[str, Any]) -> str:
        """An expression that writes ``value``. The function that it calls is added to ``names``."""
        if self.write is None:
            return value
        name = f"write_{len(names)}"
        names[name] = self.write
        return f"{name}(writer, {value})"


class Column(NamedTuple):
    """One field of a class. ``default`` is MISSING if it has none."""

    hint: Any
    default: Any
    coder: Coder


_OF_TYPE: dict[Any, Coder] = {
    bytes: Coder(ValueWriter.data, ValueReader.data),
    object: Coder(ValueWriter.value, ValueReader.value),
}
TEXT = Coder(ValueWriter.text, ValueReader.text)


@cache
def columns_of(cls: Any) -> dict[str, Column]:
    """The fields of a class. Derived on first use, because most processes meet few classes."""
    hints = typing.get_type_hints(cls, None, vars(messages))  # JsonValue names itself
    columns = {}
    for field in dataclasses.fields(cls):
        if (name := field.name) not in IMPLIED:
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            columns[name] = Column(hints[name], default, coder_of(hints[name], name in CONTENT))
    return columns


class ObjectCoder:
    """Writes and reads objects as their values by name or path, without those at their default."""

    def __init__(self, cls: Any, columns: Mapping[str, Column]) -> None:
        self._cls = cls
        self._columns = columns
        self.keys = tuple(columns)
        self.defaults = {key: column.default for key, column in columns.items()}
        self._readers = {key: column.coder.read for key, column in columns.items()}

    def write(self, writer: ValueWriter, thing: object) -> Json:
        return self._write(writer, thing)

    @cached_property
    def _write(self) -> Write:
        names = dict[str, Any]()
        lines = []
        for at, (key, column) in enumerate(self._columns.items()):
            names[f"default_{at}"] = column.default
            value = column.coder.written("value", names)
            lines.append(f" if (value := thing.{key}) is not default_{at}: row[{key!r}] = {value}\n")
        return compile_function(names, f"(writer, thing):\n row = {{}}\n{''.join(lines)} return row")

    def values(self, reader: ValueReader, row: Mapping[str, Json]) -> dict[str, Any]:
        """The values of an object that this version knows."""
        return {
            key: value if (read := self._readers[key]) is None else read(reader, value)
            for key, value in row.items()
            if key in self._readers
        }

    def read(self, reader: ValueReader, row: Mapping[str, Json]) -> Any:
        return self._cls(**self.values(reader, row))


@cache
def coder_of_class(cls: Any) -> ObjectCoder:
    return ObjectCoder(cls, columns_of(cls))


def coder_of(hint: Any, content: bool) -> Coder:
    """The coder of a type. ``content``: its texts are what people and models wrote."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, typing.NewType):
        return coder_of(hint.__supertype__, content)
    if origin in {Union, types.UnionType}:
        return _coder_of_union(arguments, content)
    if dataclasses.is_dataclass(hint):
        coder = coder_of_class(typing.cast("Any", hint))
        return Coder(coder.write, coder.read)
    if origin is tuple:
        return _coder_of_items(*{coder_of(argument, content) for argument in arguments if argument is not ...})
    if content and origin is not None and issubclass(origin, Mapping | Sequence):
        return Coder(ValueWriter.schema)
    return TEXT if content and hint is str else _OF_TYPE.get(hint, Coder())


def _coder_of_items(item: Coder) -> Coder:
    """A tuple, which is a list in JSON. All its items have one coder."""
    write, read = item
    return Coder(
        write and (lambda writer, items: [write(writer, item) for item in items]),
        (lambda _, items: tuple(items))
        if read is None
        else lambda reader, items: tuple([read(reader, item) for item in items]),
    )


def _coder_of_union(members: Sequence[Any], content: bool) -> Coder:
    """A value or None; several classes, distinguished by name; a text or a tuple, which is a list in JSON."""
    if types.NoneType in members:
        write, read = _coder_of_union([member for member in members if member is not types.NoneType], content)
        return Coder(
            write and (lambda writer, value: None if value is None else write(writer, value)),
            read and (lambda reader, value: None if value is None else read(reader, value)),
        )
    if len(members) == 1:
        return coder_of(members[0], content)
    if members[0] is str and typing.get_origin(members[1]) is tuple:
        write_items, read_items = typing.cast("tuple[Write, Read]", coder_of(members[1], content))
        return Coder(
            lambda writer, value: writer.text(value) if isinstance(value, str) else write_items(writer, value),
            lambda reader, value: read_items(reader, value) if isinstance(value, list) else reader.text(value),
        )
    if not all(map(dataclasses.is_dataclass, members)):
        return Coder()
    classes = {member.__name__: member for member in members}
    return Coder(ValueWriter.member, lambda reader, row: coder_of_class(classes[row[0]]).read(reader, row[1]))


def compile_function(names: dict[str, Any], source: str) -> Callable[..., Any]:
    """A function compiled from source, as dataclasses are: it is called for thousands of events a second."""
    exec(f"def compiled{source}", names)  # noqa: S102  names of our own fields
    compiled: Callable[..., Any] = names["compiled"]
    return compiled
