"""Large plain data as bytes, in steps that never hold the interpreter's lock for long, as its JSON encoder does."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rlm.core.cells import PlainValue
from rlm.sandbox.worker.wire.frames import encode_text
from rlm.sandbox.worker.wire.values import TAG, Encoder, dump

STEP_ITEMS = 256
STEP_CHARS = 64 * 1024


def dump_in_steps(value: PlainValue) -> tuple[str, Iterator[bytes]]:
    """The kind of a value and its bytes in pieces, as ``worker.wire.values.dump`` encodes it.

    Raises, with the first piece or a later one:
        NotPlain: it contains an object that is not plain data.
    """
    if isinstance(value, str | bytes | bytearray):
        kind, payload = dump(value, strict=True)
        return kind, iter((payload,))
    return "j", map(encode_text, _encoded(value))


def _encoded(value: PlainValue) -> Iterator[str]:
    """JSON of a value. Trees of its items are built one by one: the garbage collector would visit those of all items."""
    encoder = Encoder(strict=True, max_chars=None)
    if type(value) is list:
        separator = "["
        for start in range(0, len(value), STEP_ITEMS):
            yield from _list_items(
                [encoder.encode(item, 1, False) for item in value[start : start + STEP_ITEMS]], separator
            )
            separator = ","
        yield "]" if value else "[]"
    elif type(value) is dict and TAG not in value and set(map(type, value)) == {str}:
        separator = "{"
        for key, item in value.items():
            yield f"{separator}{_json(key)}:"
            yield from _pieces(encoder.encode(item, 1, False))
            separator = ","
        yield "}"
    else:
        yield from _pieces(encoder.encode(value, 0, False))


def _pieces(tree: object) -> Iterator[str]:
    if isinstance(tree, str) and _is_long(tree):
        yield '"'
        for start in range(0, len(tree), STEP_CHARS):
            yield _json(tree[start : start + STEP_CHARS])[1:-1]
        yield '"'
    elif isinstance(tree, list) and (_is_long(tree) or any(map(_is_long, tree))):
        yield "["
        for start in range(0, len(tree), STEP_ITEMS):
            yield from _list_items(tree[start : start + STEP_ITEMS], "," if start else "")
        yield "]"
    elif isinstance(tree, dict) and (_is_long(tree) or any(map(_is_long, tree.values()))):
        separator = "{"
        for key, value in tree.items():
            yield f"{separator}{_json(key)}:"
            yield from _pieces(value)
            separator = ","
        yield "}"
    else:
        yield _json(tree)


def _list_items(items: list[object], separator: str) -> Iterator[str]:
    if not any(map(_is_long, items)):
        yield separator + _json(items)[1:-1]
        return
    for item in items:
        yield separator
        yield from _pieces(item)
        separator = ","


def _is_long(value: object) -> bool:
    if isinstance(value, str):
        return len(value) > STEP_CHARS
    return isinstance(value, list | dict) and len(value) > STEP_ITEMS


def _json(tree: object) -> str:
    return json.dumps(tree, ensure_ascii=False, check_circular=False, separators=(",", ":"))
