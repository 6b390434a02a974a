"""Wire format: values keep their types, frames survive any split, and no bytes break the reader."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.sandbox.protocol import finish
from rlm.sandbox.worker.wire.frames import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    PART_BYTES,
    Decoder,
    WireError,
    pack,
    pack_message,
)
from rlm.sandbox.worker.wire.pieces import MAX_ITEMS as MAX_PIECES_ITEMS
from rlm.sandbox.worker.wire.pieces import MAX_VALUE_BYTES, PIECE_BYTES, _piece, dump_value, read_value, split
from rlm.sandbox.worker.wire.values import MAX_CONTAINERS, Encoder, NotPlain, TooLarge, dump, load

STEADY = settings(deadline=None)  # a busy machine is not a failure
TEXT = st.text(st.characters(codec=None, exclude_categories=()))
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**200)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary()
    | st.dates()
    | st.datetimes()
    | st.datetimes(timezones=st.just(dt.timezone(dt.timedelta(hours=5, minutes=30))))
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
)
KEYS = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3), max_leaves=4
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(TEXT, inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(KEYS, max_size=4)
        | st.frozensets(KEYS, max_size=4)
    ),
    max_leaves=20,
)


def types_of(value: object) -> object:
    """The types of a value and of everything in it; sets and keys in no particular order."""
    if isinstance(value, dict):
        return dict, [(types_of(key), types_of(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [types_of(item) for item in value]
    return type(value)


@STEADY
@given(VALUES)
def test_plain_values_keep_value_and_types(value: object) -> None:
    back = load(*dump(value, strict=True))
    assert back == value
    assert types_of(back) == types_of(value)


class Hashable(list):  # type: ignore[type-arg]
    def __hash__(self) -> int:  # type: ignore[override]
        return 1


class Liar(dict):  # type: ignore[type-arg]
    def __contains__(self, key: object) -> bool:
        raise RuntimeError

    def items(self) -> None:  # type: ignore[override]
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError


SENT_AS: dict[str, tuple[object, object]] = {
    "object": (complex(1, 2), "(1+2j)"),
    "bool in a list": ([True, 1, 1.0], [True, 1, 1.0]),
    "int subclass": (type("I", (int,), {})(3), 3),
    "bytearray": (bytearray(b"x"), b"x"),
    "hashable list as key": ({Hashable([1]): 1}, {"[1]": 1}),
    "hashable list in a set": ({Hashable([1])}, {"[1]"}),
    "hashable list in a tuple in a set": ({(Hashable([1]),)}, {("[1]",)}),
    "liar": (Liar(a=1), {"a": 1}),
    "tag of our own": ({"$": "int", "v": "0x1"}, {"$": "int", "v": "0x1"}),
    "range": (range(3), "range(0, 3)"),
}


@pytest.mark.parametrize("name", SENT_AS)
def test_other_objects_become_text_or_base_type(name: str) -> None:
    value, back = SENT_AS[name]
    decoded = load(*dump(value))
    assert (decoded, types_of(decoded)) == (back, types_of(back))


def test_cycles_and_deep_nesting_are_cut() -> None:
    cycle: list[object] = [1]
    cycle.append({"again": cycle})
    assert load(*dump(cycle)) == [1, {"again": "[1, {'again': [...]}]"}]
    deep: object = "core"
    for _ in range(100_000):
        deep = [deep]
    load(*dump(deep))
    twice = ["shared"]
    assert load(*dump([twice, twice])) == [twice, twice]
    with pytest.raises(NotPlain):
        dump(cycle, strict=True)
    with pytest.raises(NotPlain):
        dump([object()], strict=True)


@pytest.mark.parametrize("value", ["x" * 101, b"x" * 101, ["x" * 60, "y" * 60], list(range(101)), {"k" * 101: 1}])
def test_large_values_are_rejected_early(value: object) -> None:
    with pytest.raises(TooLarge):
        dump(value, max_chars=100)


@STEADY
@given(VALUES)
def test_values_in_pieces_keep_value_and_types(value: object) -> None:
    pieces = split(Encoder(True, None).encode(value, 0, False))
    back = finish(read_value("p", memoryview(pieces)))
    assert back == value
    assert types_of(back) == types_of(value)


LARGE: dict[str, object] = {
    "text in a list": ["\u20ac" * 300_000, 1],
    "a text with lone surrogates": ["\ud800x" * 60_000],
    "nested lists": [[["x" * 100_000]] * 3] * 3,
    "a dict with numbers as keys": {n: str(n) for n in range(20_000)},
    "a dict with a tag": {"$": ["x" * 100_000], "v": 1},
    "a set": set(range(30_000)),
    "a frozenset in a tuple": (frozenset(range(30_000)), 2),
    "bytes": {"b": bytes(range(256)) * 1000},
    "long numbers": [1 << 400_000, Decimal("1" * 90_000)],
    "numbers with equal hashes": {k * (2**61 - 1): "x" * 20_000 for k in range(5)},
}


@pytest.mark.parametrize("name", LARGE)
def test_large_values_survive_pieces(name: str) -> None:
    kind, data = dump_value(LARGE[name])
    assert kind == "p"
    back = finish(read_value(kind, memoryview(data)))
    assert back == LARGE[name]
    assert types_of(back) == types_of(LARGE[name])


def test_long_text_is_read_in_steps() -> None:
    text = "a\u00e9\u20ac\U0001f600\ud800" * 50_000
    steps = read_value("s", memoryview(text.encode("utf-8", "surrogatepass")))
    assert next(steps) is None
    assert finish(steps) == text


TOO_LARGE: dict[str, object] = {
    "text": "x" * (MAX_VALUE_BYTES + 1),
    "text beyond ASCII": "\u20ac" * (MAX_VALUE_BYTES // 3 + 1),
    "lists": [[] for _ in range(130_000)],
    "items": [0] * MAX_PIECES_ITEMS,
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_values_beyond_the_reader_are_not_sent(name: str) -> None:
    with pytest.raises(TooLarge, match="at most"):
        dump_value(TOO_LARGE[name])


def test_colliding_keys_are_sent_as_text() -> None:
    kind, data = dump_value({k * (2**61 - 1) for k in range(20)})
    assert kind == "j"
    assert isinstance(load(kind, data, hostile=True), str)


def _open(kind: bytes, *parts: bytes) -> bytes:
    return b"".join((_piece(b"(", kind), *parts, _piece(b")")))


COLLIDING = json.dumps([k * (2**61 - 1) for k in range(20)]).encode()
HOSTILE_PIECES = {
    "nothing": b"",
    "half a piece": _piece(b"+", b"[1]")[:3],
    "a length beyond the data": struct.pack(">cI", b"+", 10) + b"[1]",
    "a large piece": _piece(b"+", b"[" + b" " * PIECE_BYTES + b"]"),
    "two values": _piece(b"+", b"[1,2]"),
    "no list": _piece(b"+", b"1"),
    "an unknown operation": _piece(b"x"),
    "an unknown type": _open(b"eval"),
    "not closed": _piece(b"(", b"list"),
    "closed twice": _open(b"list") + _piece(b")"),
    "text in a list": _open(b"list", _piece(b"s", b"x")),
    "text alone": _piece(b"s", b"x"),
    "a number in a text": _open(b"text", _piece(b"+", b"[1]")),
    "a dict of single items": _open(b"dict", _piece(b"+", b"[1]")),
    "lists as keys": _open(b"dict", _piece(b"+", b"[[[],1]]")),
    "a set of lists": _open(b"set", _piece(b"+", b"[[]]")),
    "colliding keys": _open(b"set", _piece(b"+", COLLIDING)),
    "colliding keys in one piece": _piece(b"+", b'[{"$":"frozenset","v":' + COLLIDING + b"}]"),
    "an integer without digits": _open(b"int", _piece(b"s", b"zz")),
    "an integer of two million digits": _open(b"int", _piece(b"s", b"f" * 32_000) * 64),
    "a Decimal without digits": _open(b"decimal", _piece(b"s", b"one")),
    "bytes that are not base64": _open(b"bytes", _piece(b"s", b"***")),
    "nested too deep": _piece(b"(", b"list") * 300 + _piece(b")") * 300,
    "nested too deep within a piece": _piece(b"(", b"list") * 150
    + _piece(b"+", b"[" * 90 + b"]" * 90)
    + _piece(b")") * 150,
    "too many lists": _open(b"list", _piece(b"+", b"[" + b"[]," * 9000 + b"[]]") * 30),
}


@pytest.mark.parametrize("name", HOSTILE_PIECES)
def test_hostile_pieces_are_rejected(name: str) -> None:
    with pytest.raises(WireError):
        finish(read_value("p", memoryview(HOSTILE_PIECES[name])))


def test_large_values_need_pieces() -> None:
    with pytest.raises(WireError, match="in pieces"):
        finish(read_value("j", memoryview(b"[" + b"1," * 40_000 + b"1]")))


@STEADY
@given(st.binary(max_size=200), st.sampled_from([b"+", b"s", b"(", b")"]))
def test_random_pieces_are_read_or_rejected(data: bytes, operation: bytes) -> None:
    with contextlib.suppress(WireError):
        finish(read_value("p", memoryview(_piece(operation, data) + data)))


HOSTILE = [
    b"",
    b"{",
    b"\xff",
    b'{"$":"int"}',
    b'{"$":"int","v":5}',
    b'{"$":"tuple","v":{}}',
    b'{"$":["x"],"v":1}',
    b'{"$":"eval","v":"1"}',
    b'{"$":"set","v":[[]]}',
    b'{"$":"dict","v":[[1]]}',
    b'{"$":"dict","v":[[[],1]]}',
    b'{"$":"bytes","v":"***"}',
    b'{"$":"date","v":"soon"}',
    b'{"$":"timedelta","v":[1]}',
    b'{"$":"timedelta","v":[1e300,0,0]}',
    b'{"$":"decimal","v":[0]}',
    b'{"$":"decimal","v":"one"}',
    b'{"$":"set","v":[{"$":"decimal","v":"sNaN"}]}',
    b"1" * 5000,
    b"[" * 100_000,
    b"[" * 500 + b"]" * 500,
    b'{"$":"tuple","v":[' * 300 + b"]}" * 300,
    b"[" + b"[]," * (MAX_CONTAINERS + 1) + b"[]]",
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:40]))
def test_hostile_values_are_rejected(data: bytes) -> None:
    with pytest.raises(WireError):
        load("j", data)


@STEADY
@given(st.sampled_from(["s", "b", "j", "x", 5, None, []]), st.binary(max_size=200))
def test_random_bytes_load_or_are_rejected(kind: object, data: bytes) -> None:
    with contextlib.suppress(WireError):
        load(kind, data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=10)
    | st.sampled_from(["int", "tuple", "dict", "set", "$"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["$", "v", "a"]), inner, max_size=3)
        | st.fixed_dictionaries(
            {
                "$": st.sampled_from(["int", "tuple", "set", "dict", "bytes", "date", "time", "timedelta", "decimal"]),
                "v": inner,
            }
        )
    ),
    max_leaves=12,
)


@STEADY
@given(JSON)
def test_random_json_loads_or_is_rejected(tree: object) -> None:
    with contextlib.suppress(WireError):
        load("j", json.dumps(tree).encode())


MESSAGES = st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.integers()), st.binary(max_size=300)), max_size=8)


@STEADY
@given(MESSAGES, st.lists(st.integers(min_value=1, max_value=50), min_size=1))
def test_messages_survive_any_split(messages: list[tuple[dict[str, int], bytes]], cuts: list[int]) -> None:
    sent = [({**header, "t": "x"}, body) for header, body in messages]
    stream = b"".join(frame for header, body in sent for frame in pack_message(header, body))
    decoder, decoded, at, turn = Decoder(), [], 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        decoded += decoder.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert [(message.header, message.body) for message in decoded] == sent


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES, 2 * PART_BYTES + 1])
def test_large_bodies_travel_in_parts(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    frames = list(pack_message({"t": "x"}, body))
    assert len(frames) == max(1, -(-size // PART_BYTES))
    decoder = Decoder()
    messages = [message for frame in frames for message in decoder.feed(frame)]
    assert [(message.header, message.body == body) for message in messages] == [({"t": "x"}, True)]
    assert [message.body for message in decoder.feed(pack({"t": "y"}, b"next"))] == [b"next"]


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", MAX_HEADER_BYTES + 1, 0),
        struct.pack(">II", 10, MAX_BODY_BYTES + 1),
        struct.pack(">II", 2**32 - 1, 2**32 - 1),
        struct.pack(">II", 4, 0) + b"null",
        struct.pack(">II", 2, 0) + b"{}",
        struct.pack(">II", 7, 0) + b'{"t":1}',
        struct.pack(">II", 2, 0) + b"\xff\xfe",
        struct.pack(">II", 60_000, 0) + b"[" * 60_000,
    ],
    ids=repr,
)
def test_malformed_frame_is_rejected_before_buffering(data: bytes) -> None:
    with pytest.raises(WireError):
        Decoder().feed(data)


def test_endless_parts_are_rejected() -> None:
    decoder = Decoder(max_message_bytes=10 * 1024 * 1024)
    part = pack({"t": "part"}, b"x" * PART_BYTES)
    decoder.feed(part)
    decoder.feed(part)
    with pytest.raises(WireError, match="larger than"):
        decoder.feed(part)


@STEADY
@given(st.binary(max_size=400))
def test_random_bytes_are_frames_or_rejected(data: bytes) -> None:
    with contextlib.suppress(WireError):
        Decoder(1000).feed(data)
