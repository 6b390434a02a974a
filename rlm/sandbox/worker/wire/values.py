"""Encodes plain Python data with its types. Never pickle, and safe to decode from a hostile sender. Pure.

    kind "s"  text, as UTF-8
    kind "b"  bytes, as they are
    kind "j"  anything else, as JSON: lists and objects with text keys stand for themselves, every other type is
              ``{"$": type, "v": ...}``

Subclasses are encoded as the plain type that they extend, and any other object as its ``str()``.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import operator
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from .frames import WireError, decode_text, encode_text
from .images import ImageHandle, ImageQuery, read_handle, read_query

TAG = "$"
MAX_NAME_CHARS = 1_000  # of a variable's or a type's name in a report
MAX_DEPTH = 100  # levels of nesting that keep their types; deeper data is encoded as text
MAX_CONTAINERS = 4_000_000  # limits on decoded data: an empty list is two bytes on the wire and 56 in memory
MAX_ITEMS = 16_000_000
MAX_SAME_HASH = 8  # items of one set, or keys of one dict, that share a hash; each is compared with all others
DECODE_ERRORS = (ValueError, TypeError, ArithmeticError, LookupError)
_JSON_INT = 2**63  # larger ones are written in hexadecimal: decimal digits are quadratic, and limited to 4,300


class NotPlain(TypeError):
    """Data that must keep its types contains an object that is not plain data."""


class TooLarge(ValueError):
    """The value exceeds the caller's limit."""


_read_name: Callable[[type], str] = type.__dict__["__name__"].__get__


def type_name(value: object) -> str:
    """The name of a value's type, whatever its metaclass claims, cut to ``MAX_NAME_CHARS``."""
    return str.__str__(_read_name(type(value)))[:MAX_NAME_CHARS]


def safe_str(value: object) -> str:
    """``str(value)``, or a description of the error that it raised."""
    try:
        return str.__str__(str(value))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        return f"<{type_name(value)} object whose str() raised {type_name(error)}>"


def dump(value: object, *, strict: bool = False, max_chars: int | None = None) -> tuple[str, bytes]:
    """Encodes a value; returns its kind and bytes.

    Args:
        strict: reject objects that are not plain data, instead of encoding their ``str()``.
        max_chars: stop early if the value is larger than about this.

    Raises:
        NotPlain: with ``strict`` only.
        TooLarge: with ``max_chars`` only.
    """
    if isinstance(value, str):
        text = str.__str__(value)
        if max_chars is not None and len(text) > max_chars:
            raise TooLarge(f"{len(text)} characters")
        return "s", encode_text(text)
    if isinstance(value, (bytes, bytearray)):
        if max_chars is not None and len(value) > max_chars:
            raise TooLarge(f"{len(value)} bytes")
        return "b", bytes(value)
    return "j", json_text(Encoder(strict, max_chars).encode(value, 0, False))


def json_text(tree: object) -> bytes:
    return encode_text(json.dumps(tree, ensure_ascii=False, check_circular=False, separators=(",", ":")))


def load(kind: object, data: bytes | bytearray, *, trusted: bool = False, hostile: bool = False) -> Any:
    """Decodes a value. ``trusted`` lifts the limits on the number of its parts; ``hostile`` also limits equal hashes.

    Raises:
        WireError: the bytes are not an encoded value.
    """
    if kind == "s":
        return decode_text(data)
    if kind == "b":
        return bytes(data)
    if kind != "j":
        raise WireError(f"unknown kind of value: {kind!r}"[:100])
    text = decode_text(data)
    if not trusted and (text.count("[") + text.count("{") > MAX_CONTAINERS or text.count(",") > MAX_ITEMS):
        raise WireError("value with too many parts")
    try:
        value = json.loads(text, object_hook=_decode_hostile if hostile else _decode_object)
    except RecursionError:
        raise WireError("value nested too deep") from None
    except DECODE_ERRORS as error:
        raise WireError(f"not a value: {error}"[:200]) from None
    _check_depth(value)
    return value


class Encoder:
    """Encodes one value as a JSON tree."""

    def __init__(self, strict: bool, max_chars: int | None) -> None:
        self._strict = strict
        self._left = max_chars
        self._path: set[int] = set()  # containers being encoded, to detect cycles

    def encode(self, value: object, depth: int, hashed: bool) -> object:
        """Encodes a value as a JSON tree. With ``hashed`` it is a key or in a set, so its decoded form must be hashable."""
        self._spend(1)
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            self._spend(len(value))
            return str.__str__(value)
        if isinstance(value, int):
            number = int.__index__(value)
            return number if -_JSON_INT < number < _JSON_INT else {TAG: "int", "v": hex(number)}
        if isinstance(value, float):
            return float.__float__(value)
        if type(value) is ImageQuery:
            return {
                TAG: "images",
                "v": [value.has_context, self.encode(value.context, depth + 1, False), list(value.ids)],
            }
        if isinstance(value, (tuple, frozenset)) or (not hashed and isinstance(value, (list, dict, set))):
            return self._encode_container(value, depth, hashed)
        try:
            return self._encode_atom(value)
        except (TooLarge, NotPlain, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # methods of an object that only claims to be one of these types
            return self._text(value)

    def _encode_container(self, value: Any, depth: int, hashed: bool) -> object:
        if depth >= MAX_DEPTH or id(value) in self._path:
            if self._strict:
                raise NotPlain(f"data nested deeper than {MAX_DEPTH} levels, or inside itself")
            return self._text(value)
        self._path.add(id(value))
        try:
            if isinstance(value, dict):
                return self._encode_dict(value, depth)
            hashed = hashed or isinstance(value, (set, frozenset))
            items = [self.encode(item, depth + 1, hashed) for item in _items_of(value)]
        finally:
            self._path.discard(id(value))
        if isinstance(value, list):
            return items
        return {TAG: next(t.__name__ for t in (tuple, set, frozenset) if isinstance(value, t)), "v": items}

    def _encode_dict(self, value: dict[object, object], depth: int) -> object:
        pairs = list(dict.items(value))
        if all(type(key) is str for key, _ in pairs) and not dict.__contains__(value, TAG):
            self._spend(sum(len(str(key)) for key, _ in pairs))
            return {key: self.encode(item, depth + 1, False) for key, item in pairs}
        items = [[self.encode(k, depth + 1, True), self.encode(v, depth + 1, False)] for k, v in pairs]
        return {TAG: "dict", "v": items}

    def _encode_atom(self, value: Any) -> object:
        if isinstance(value, (bytes, bytearray)):
            self._spend(len(value))
            return {TAG: "bytes", "v": base64.b64encode(value).decode("ascii")}
        if isinstance(value, dt.datetime):  # before date, because a datetime is one
            return {TAG: "datetime", "v": dt.datetime.isoformat(value)}
        if isinstance(value, dt.date):
            return {TAG: "date", "v": dt.date.isoformat(value)}
        if isinstance(value, dt.time):
            return {TAG: "time", "v": dt.time.isoformat(value)}
        if isinstance(value, dt.timedelta):
            return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
        if isinstance(value, Decimal):
            return {TAG: "decimal", "v": Decimal.__str__(value)}
        if isinstance(value, ImageHandle):
            return {TAG: "image", "v": value.to_wire()}
        if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
            item = value.item()
            if type(item).__module__ == "builtins":
                return self.encode(item, 0, True)
        return self._text(value)

    def _text(self, value: object) -> str:
        if self._strict:
            raise NotPlain(f"a {type_name(value)} is not plain data")
        text = safe_str(value)
        self._spend(len(text))
        return text

    def _spend(self, chars: int) -> None:
        if self._left is not None:
            self._left -= chars
            if self._left < 0:
                raise TooLarge("larger than the limit")


def _items_of(value: Any) -> list[Any]:
    """The items that a list, tuple or set holds, whatever a subclass claims."""
    kind: Any = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
    return list(kind.__iter__(value))


_DECODERS: dict[str, Callable[[Any], object]] = {
    "int": lambda v: int(v, 16),
    "tuple": lambda v: tuple(_a_list(v)),
    "set": lambda v: set(_a_list(v)),
    "frozenset": lambda v: frozenset(_a_list(v)),
    "dict": lambda v: dict(_a_list(v)),
    "bytes": lambda v: base64.b64decode(v, validate=True),
    "datetime": dt.datetime.fromisoformat,
    "date": dt.date.fromisoformat,
    "time": dt.time.fromisoformat,
    "timedelta": lambda v: dt.timedelta(days=v[0], seconds=v[1], microseconds=v[2]),
    "decimal": lambda v: Decimal(v if isinstance(v, str) else "not text"),
    "image": read_handle,
    "images": read_query,
}


def _a_list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is needed here")
    return value


def _decode_object(tagged: dict[str, Any]) -> object:
    tag = tagged.get(TAG)
    if tag is None:
        return tagged
    if len(tagged) != 2 or tag not in _DECODERS:
        raise ValueError("unknown type")
    return _DECODERS[tag](tagged["v"])


def _decode_hostile(tagged: dict[str, Any]) -> object:
    """As ``_decode_object``, for a value of a few thousand parts at most."""
    if tagged.get(TAG) in ("set", "frozenset", "dict"):
        items = _a_list(tagged["v"])
        keys = [item[0] for item in items] if tagged[TAG] == "dict" else items
        if share_hash(keys):
            raise ValueError("too many items with the same hash")
    return _decode_object(tagged)


def share_hash(items: Iterable[object]) -> bool:
    """True if too many of the items have the same hash. The count itself cannot be made slow by the choice of items."""
    hashes = sorted(map(hash, items))
    return any(map(operator.eq, hashes, hashes[MAX_SAME_HASH:]))


def _check_depth(value: object) -> None:
    """Rejects nesting that no honest sender produces, because it would break recursive code of the reader later."""
    level: list[Any] = [value]
    for _ in range(2 * MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                below.extend(key for key in item if isinstance(key, (tuple, frozenset)))
            elif isinstance(item, (list, tuple, set, frozenset)):
                below.extend(item)
        if not below:
            return
        level = below
    raise WireError("value nested too deep")
