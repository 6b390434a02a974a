"""The ``repr`` of plain data. Unlike Python's own, it writes integers of any length and never raises."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

_LEAF_BITS = 2_000  # such integers have fewer digits than the lowest limit that Python can be given, 640
_DECIMAL_BITS = 1_000_000  # of about 300,000 digits; a longer integer is written in hexadecimal, in linear time
_DIGIT_BITS = math.log2(10)
_CONTAINERS: tuple[tuple[type[Any], str, str], ...] = (
    (list, "[", "]"),
    (tuple, "(", ")"),
    (set, "{", "}"),
    (frozenset, "frozenset({", "})"),
)


def int_text(number: int) -> str:
    """All digits of an integer, which ``str`` refuses beyond 4,300; hexadecimal digits beyond about 300,000."""
    number = int(number)
    bits = number.bit_length()
    if bits <= _LEAF_BITS:
        return str(number)
    if bits > _DECIMAL_BITS:
        return hex(number)
    return "-" * (number < 0) + _digits(abs(number)).lstrip("0")


def _digits(number: int) -> str:
    """The digits of a positive integer, halved until ``str`` takes the parts; with leading zeros."""
    if number.bit_length() <= _LEAF_BITS:
        return str(number)
    half = int(number.bit_length() / _DIGIT_BITS) // 2
    high, low = divmod(number, 10**half)
    return _digits(high) + _digits(low).zfill(half)


def plain_repr(value: object) -> str:
    """``repr(value)``. If that raises, the same text with its parts written one by one."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  an integer beyond Python's limit, or an object whose own method fails
        return _by_parts(value, 0)


def plain_text(value: object) -> str:
    """The value itself if it is text, otherwise its ``plain_repr``."""
    return value if isinstance(value, str) else plain_repr(value)


def _by_parts(value: Any, depth: int) -> str:
    if isinstance(value, int):
        return int_text(value)
    if depth > 200:
        return "..."
    if type(value) is dict:
        pairs = [f"{_part(key, depth)}: {_part(item, depth)}" for key, item in value.items()]
        return f"{{{', '.join(pairs)}}}"
    for kind, opening, closing in _CONTAINERS:
        if type(value) is kind:
            items = ", ".join(_part(item, depth) for item in value)
            return f"{opening}{items}{',' if kind is tuple and len(value) == 1 else ''}{closing}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = [field.name for field in dataclasses.fields(value) if field.repr]
        items = ", ".join(f"{name}={_part(getattr(value, name, None), depth)}" for name in shown)
        return f"{type(value).__qualname__}({items})"
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001
        return f"<{type(value).__name__} object whose repr() raised {type(error).__name__}>"


def _part(value: object, depth: int) -> str:
    return repr(value) if isinstance(value, str | float | bool | None) else _by_parts(value, depth + 1)
