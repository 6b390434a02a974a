"""Plain data as text and as JSON: nothing raises, and no value becomes another one."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.core.messages import JsonValue
from rlm.core.plain import dump_json, to_json
from rlm.core.plain_repr import int_text, plain_repr, plain_text
from rlm.core.result import Result
from rlm.core.subcalls import SubcallAnswer

HUGE = 10**5000
NAN = float("nan")

huge = st.integers(4_290, 9_000).map(lambda power: -(10**power))
atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=20)
    | st.binary(max_size=20)
    | st.sampled_from([Decimal("sNaN"), Decimal("NaN"), dt.timedelta.max, dt.date.min])
    | huge
)
keys = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | huge | st.tuples(huge)
values = st.recursive(
    atoms, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4) | st.tuples(inner)
)


@contextmanager
def any_digits() -> Iterator[None]:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(before)


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 20_000), st.integers(), st.booleans())
def test_int_text_has_all_digits(power: int, rest: int, negative: bool) -> None:
    number = (-1 if negative else 1) * (10**power + rest)
    text = int_text(number)
    with any_digits():
        assert text == str(number)


def test_int_text_under_lowest_limit() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert int_text(10**700) == "1" + "0" * 700
        assert json.loads(dump_json([10**700])) == ["1" + "0" * 700]
    finally:
        sys.set_int_max_str_digits(before)
    assert int(int_text(-(1 << 4_000_000)), 16) == -(1 << 4_000_000)


@settings(deadline=None, max_examples=60)
@given(values)
def test_repr_never_raises_and_is_that_of_python(value: object) -> None:
    text = plain_repr(value)
    with any_digits():
        assert text == repr(value)


@pytest.mark.parametrize(
    "value",
    [[HUGE, Hostile()], {HUGE: {HUGE}}, (HUGE,), frozenset([HUGE]), SubcallAnswer(HUGE), [SubcallAnswer([HUGE])]],
    ids=["hostile", "dict", "tuple", "frozenset", "value class", "list of value classes"],
)
def test_repr_of_parts_that_python_refuses(value: Any) -> None:
    assert str(HUGE % 10**50) in plain_repr(value)
    assert plain_text(value) == plain_repr(value)


@settings(deadline=None, max_examples=60)
@given(values)
def test_json_of_any_plain_data_can_be_read(value: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = dump_json(value)
    read = json.loads(text, parse_constant=refuse)
    if not has_lone_surrogate(value):
        assert same(read, to_json(value)), (read, to_json(value))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
        ({None: 1, "None": 2}, [[None, 1], ["None", 2]]),
        ({True: 1, "True": [{2: 3}]}, [[True, 1], ["True", [{"2": 3}]]]),
        ({1: "a", 2: "b"}, {"1": "a", "2": "b"}),
        ([float("inf"), -0.0, NAN], ["inf", -0.0, "nan"]),
        ({"x": {NAN: None}}, {"x": {"nan": None}}),
        (HUGE, "1" + "0" * 5000),
        ({HUGE: 1}, {"1" + "0" * 5000: 1}),
        (10**4000, 10**4000),
        ({Decimal("1"): Decimal("NaN")}, {"1": "NaN"}),
    ],
    ids=map(str, range(10)),
)
def test_json_loses_no_key_and_no_number(value: Any, expected: JsonValue) -> None:
    assert to_json(value) == expected
    assert json.loads(dump_json(value)) == expected


def test_result_of_huge_number_prints() -> None:
    result = Result.__new__(Result)
    object.__setattr__(result, "answer", [HUGE])
    assert str(result) == f"[1{'0' * 5000}]"


def has_lone_surrogate(value: object) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in plain_repr(value)) or "\\ud" in plain_repr(value)


def same(read: object, converted: object) -> bool:
    """Equal, with integers of more than 64 bits as the floats that some readers make of them."""
    return read == converted or plain_repr(read) == plain_repr(converted)
