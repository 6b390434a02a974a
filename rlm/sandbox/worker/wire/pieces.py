"""Large values on the wire: a sequence of small pieces, so that their reader never works long without a pause. Pure.

    piece    = operation (one byte) | length (u32) | payload.
    "("      opens a container; the payload names its type.
    ")"      closes it.
    "+"      items of the open container, as a JSON list in the encoding of ``values``.
    "s"      a part of a text, as UTF-8.

An honest sender encodes values beyond ``INLINE_BYTES`` in this way. The reader is a generator that yields between pieces, and
its caller decides how long to pause. Every container that it builds is bounded in parts, in depth, and in the number of items
that share one hash.
"""

from __future__ import annotations

import base64
import random
import struct
from collections.abc import Callable, Generator, Iterator
from decimal import Decimal
from typing import Any, TypeVar

from .frames import WireError, decode_text, encode_text
from .images import read_handle, read_query
from .values import DECODE_ERRORS, MAX_DEPTH, MAX_SAME_HASH, TAG, Encoder, TooLarge, dump, json_text, load, share_hash

INLINE_BYTES = 64 * 1024  # JSON up to this size is read in one step of at most a few milliseconds
PIECE_BYTES = 32 * 1024
TEXT_PIECE_BYTES = 64 * 1024  # lone surrogates cost 0.2 us a byte
MAX_CONTAINERS = 250_000  # the garbage collector visits them without a pause
MAX_ITEMS = 1_000_000  # the end of a value frees them without a pause
MAX_VALUE_BYTES = 48 * 1024 * 1024  # of one value or prompt: the host copies it in one step
MAX_TOOL_BYTES = 8 * 1024 * 1024  # of the arguments of one tool call
MAX_NUMBER_CHARS = 1_000_000
HASHED_ITEMS = 8  # added to a set or a dict between two pauses

_OPERATION = struct.Struct(">cI")
_MERSENNE = 2**61 - 1  # modulus of hashes of numbers
_SALT = random.SystemRandom().randrange(2**32, _MERSENNE)

_NUMERIC = (int, float, Decimal, tuple, frozenset)  # types with hashes that a sender can choose

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work in steps: yields between two of them, and returns its result."""


def dump_value(value: object, max_bytes: int = MAX_VALUE_BYTES, *, strict: bool = False) -> tuple[str, bytes]:
    """Encodes a value as ``values.dump`` does, within the limits of the reader.

    Raises:
        TooLarge: the value exceeds a limit.
        NotPlain: with ``strict`` only.
    """
    if isinstance(value, (str, bytes, bytearray)):
        check_size(len(value), max_bytes)
        kind, data = dump(value)
    else:
        tree = _BoundedEncoder(strict, None).encode(value, 0, False)
        kind, data = "j", json_text(tree)
        if len(data) > INLINE_BYTES:
            kind, data = "p", split(tree)
    check_size(len(data), max_bytes)
    return kind, data


def check_size(size: int, max_bytes: int = MAX_VALUE_BYTES) -> None:
    """Raises TooLarge for a value or prompt that exceeds ``max_bytes``."""
    if size > max_bytes:
        raise TooLarge(
            f"a prompt, context or answer must be at most {max_bytes >> 20} MB; got {size >> 20} MB. "
            "Use a part or a summary of it."
        )


class _BoundedEncoder(Encoder):
    """Encodes a value within the limits on its parts."""

    def __init__(self, strict: bool, max_chars: int | None) -> None:
        super().__init__(strict, max_chars)
        self._items = self._containers = 0

    def encode(self, value: object, depth: int, hashed: bool) -> object:
        self._items += 1
        if self._items > MAX_ITEMS // 2:  # the keys of dicts are items too
            raise TooLarge(_too_many(MAX_ITEMS // 2, "items"))
        return super().encode(value, depth, hashed)

    def _encode_container(self, value: Any, depth: int, hashed: bool) -> object:
        self._containers += 1
        if self._containers > MAX_CONTAINERS // 2:
            raise TooLarge(_too_many(MAX_CONTAINERS // 2, "lists, tuples, dicts and sets"))
        if isinstance(value, (set, frozenset, dict)) and _shares_hash(value):
            return self._text(value)
        return super()._encode_container(value, depth, hashed)


def _too_many(most: int, kind: str) -> str:
    return f"a context or answer must have at most {most:,} {kind}. Use text instead, for instance json.dumps(...)."


def _shares_hash(value: set[Any] | frozenset[Any] | dict[Any, Any]) -> bool:
    base = next(kind for kind in (set, frozenset, dict) if isinstance(value, kind))
    items: Iterator[Any] = base.__iter__(value)  # type: ignore[arg-type]
    try:
        return share_hash(item for item in items if isinstance(item, _NUMERIC))
    except Exception:  # a hash of the cell's own
        return True


def split(tree: Any) -> bytes:
    """Encodes a JSON tree in the encoding of ``values`` as pieces."""
    return b"".join(_split_items([tree]))


def _piece(operation: bytes, payload: bytes = b"") -> bytes:
    return _OPERATION.pack(operation, len(payload)) + payload


def _split_items(items: list[Any]) -> Iterator[bytes]:
    at, step = 0, 256
    while at < len(items):
        some = items[at : at + step]
        text = json_text(some)
        if len(text) <= PIECE_BYTES:
            yield _piece(b"+", text)
            at += step
            step *= 2
        elif len(some) > 1:
            step = len(some) // 2
        else:
            yield from _split_item(some[0])
            at += 1


def _split_item(item: Any) -> Iterator[bytes]:
    content: Any
    if isinstance(item, str):
        kind, content = "text", item
    elif isinstance(item, list):
        kind, content = "list", item
    elif TAG in item:
        kind, content = item[TAG], item["v"]
    else:
        kind, content = "object", [[key, value] for key, value in item.items()]
    yield _piece(b"(", kind.encode())
    if isinstance(content, str):
        for at in range(0, len(content), PIECE_BYTES // 4):
            yield _piece(b"s", encode_text(content[at : at + PIECE_BYTES // 4]))
    else:
        yield from _split_items(content)
    yield _piece(b")")


def read_value(kind: object, data: memoryview) -> Steps[Any]:
    """Reads a value from an untrusted sender. Raises WireError."""
    match kind:
        case "s":
            return (yield from read_text(data))
        case "b":
            return bytes(data)
        case "p":
            return (yield from _assemble(data))
        case _:
            if len(data) > INLINE_BYTES:
                raise WireError("a large value was not sent in pieces")
            return load(kind, bytes(data), hostile=True)


def read_text(data: memoryview) -> Steps[str]:
    """Reads UTF-8 text. Raises WireError."""
    if len(data) <= TEXT_PIECE_BYTES:
        return decode_text(bytes(data))
    texts: list[str] = []
    at = 0
    while at < len(data):
        end = min(len(data), at + TEXT_PIECE_BYTES)
        for _ in range(3):  # to the next beginning of a character
            if end < len(data) and data[end] & 0xC0 == 0x80:
                end += 1
        texts.append(decode_text(bytes(data[at:end])))
        at = end
        yield
    return "".join(texts)


class _Counter:
    """Counts the parts of a value while it is read."""

    def __init__(self) -> None:
        self._containers = self._items = 0

    def add(self, value: Any, depth: int) -> None:
        """Counts a value and everything in it. Raises WireError."""
        level = [value]
        while level:
            self._items += len(level)
            below: list[Any] = []
            for item in level:
                if isinstance(item, dict):
                    below.extend(item.values())
                    below.extend(key for key in item if isinstance(key, (tuple, frozenset)))
                elif isinstance(item, (list, tuple, set, frozenset)):
                    below.extend(item)
                else:
                    continue
                self._containers += 1
            if below and depth > 2 * MAX_DEPTH:
                raise WireError("value nested too deep")
            depth += 1
            level = below
        if self._items > MAX_ITEMS or self._containers > MAX_CONTAINERS:
            raise WireError("value with too many parts")


def _assemble(data: memoryview) -> Steps[Any]:
    counter = _Counter()
    stack: list[tuple[str, list[Any]]] = [("list", [])]
    at = 0
    while at < len(data):
        yield
        operation, payload = _next_piece(data, at)
        at += _OPERATION.size + len(payload)
        match operation:
            case b"+":
                items = load("j", payload, hostile=True)
                if not isinstance(items, list):
                    raise WireError("a piece is not a list")
                counter.add(items, len(stack))
                stack[-1][1].extend(items)
            case b"s":
                stack[-1][1].append(_TextPart(decode_text(payload)))
            case b"(":
                counter.add([], len(stack))
                stack.append((decode_text(payload), []))
            case b")" if len(stack) > 1:
                kind, items = stack.pop()
                stack[-1][1].append((yield from _close(kind, items)))
            case _:
                raise WireError("unknown operation")
        if len(stack) > 2 * MAX_DEPTH:
            raise WireError("value nested too deep")
    if len(stack) != 1 or len(stack[0][1]) != 1 or isinstance(stack[0][1][0], _TextPart):
        raise WireError("incomplete value")
    return stack[0][1][0]


class _TextPart(str):
    """A part of a text, which is legal only in a container made of text."""

    __slots__ = ()


def _next_piece(data: memoryview, at: int) -> tuple[bytes, bytes]:
    if len(data) - at < _OPERATION.size:
        raise WireError("incomplete piece")
    operation, length = _OPERATION.unpack_from(data, at)
    start = at + _OPERATION.size
    if length > PIECE_BYTES or length > len(data) - start:
        raise WireError("a piece is too long")
    return operation, bytes(data[start : start + length])


def _close(kind: str, items: list[Any]) -> Steps[Any]:
    """Builds a container from its items."""
    if kind in _TEXTUAL:
        if not all(isinstance(item, _TextPart) for item in items):
            raise WireError("a text has other parts than text")
        return _build(_TEXTUAL[kind], items)
    if any(isinstance(item, _TextPart) for item in items):
        raise WireError("a part of a text outside a text")
    match kind:
        case "list":
            return items
        case "tuple":
            return tuple(items)
        case "set" | "frozenset":
            built = yield from _hashed(items, set(), set.add, lambda item: (item,))
            return built if kind == "set" else frozenset(built)
        case "image" | "images":
            return _build(read_handle if kind == "image" else read_query, items)
        case "dict" | "object":
            return (yield from _hashed(items, {}, dict.__setitem__, _pair))
        case _:
            raise WireError("unknown type")


def _hashed(items: list[Any], built: Any, add: Callable[..., object], arguments: Callable[[Any], Any]) -> Steps[Any]:
    """Fills a set or a dict. Rejects items that share a hash: each would be compared with all others."""
    counts: dict[int, int] = {}
    for index, item in enumerate(items):
        if not index % HASHED_ITEMS:
            yield
        pair = arguments(item)
        try:
            mixed = hash(pair[0]) * _SALT % _MERSENNE
            add(built, *pair)
        except (TypeError, ArithmeticError, ValueError) as error:
            raise WireError(f"not a value: {error}"[:200]) from None
        counts[mixed] = count = counts.get(mixed, 0) + 1
        if count > MAX_SAME_HASH:
            raise WireError("too many items with the same hash")
    return built


def _pair(item: Any) -> Any:
    if not isinstance(item, (list, tuple)) or len(item) != 2:
        raise WireError("an item of a dict is not a pair")
    return item


def _build(make: Callable[[list[Any]], object], parts: list[Any]) -> object:
    try:
        return make(parts)
    except DECODE_ERRORS as error:
        raise WireError(f"not a value: {error}"[:200]) from None


def _number(parts: list[str]) -> str:
    if sum(map(len, parts)) > MAX_NUMBER_CHARS:
        raise WireError("a number is too long")
    return "".join(parts)


_TEXTUAL: dict[str, Callable[[list[str]], object]] = {
    "text": "".join,
    "int": lambda parts: int(_number(parts), 16),
    "decimal": lambda parts: Decimal(_number(parts)),
    "bytes": lambda parts: b"".join(base64.b64decode(part, validate=True) for part in parts),
}
