"""Type hints as JSON schemas, and data as their instances."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import enum
import pathlib
import uuid
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, Required, TypedDict, TypeVar, Union

import pytest
from annotated_types import Ge, Gt, Len, MaxLen, MultipleOf
from pydantic import Field

from rlm.sandbox.worker.typed.form import HintError
from rlm.sandbox.worker.typed.hints import compile_hint
from rlm.sandbox.worker.typed.instances import to_plain
from rlm.schemas.validator import compile_schema

T = TypeVar("T")
UserId = NewType("UserId", int)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Odd(enum.Enum):
    A = (1, 2)


@dataclasses.dataclass
class Box(Generic[T]):
    item: T
    more: list[Box[T]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(kw_only=True)
class Base:
    """A documented class."""

    number: int = dataclasses.field(metadata={"description": "how many"})
    hidden: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Derived(Base):
    when: dt.datetime
    pair: Pair


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Partial(TypedDict, total=False):
    a: Required[int]
    b: list[str]


BUILT: list[tuple[Any, Any, Any]] = [
    (Level, 2, Level.HIGH),
    (Odd, "A", Odd.A),
    (UserId, 3, 3),
    (Literal[1, "a", None], None, None),
    (Literal[True, 0], True, True),
    (Box[int], {"item": 1, "more": [{"item": 2}]}, Box(1, [Box(2)])),
    (Box[Box[str]], {"item": {"item": "x"}}, Box(Box("x"))),
    (Derived, {"number": 1, "when": "2025-01-02T03:04:05", "pair": {"left": 1}},
     Derived(number=1, when=dt.datetime(2025, 1, 2, 3, 4, 5), pair=Pair(1))),
    (Partial, {"a": 1}, {"a": 1}),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[()], [], ()),
    (frozenset[int], [1, 2], frozenset({1, 2})),
    (collections.abc.Sequence[int], [1], [1]),
    (collections.abc.Mapping[str, int], {"a": 1}, {"a": 1}),
    (dict[int, float], {"3": 1}, {3: 1.0}),
    (dict[Literal["a"], int], {"a": 1}, {"a": 1}),
    (dict[dt.date, int], {"2025-01-02": 1}, {dt.date(2025, 1, 2): 1}),
    (Optional[Box[int]], None, None),  # noqa: UP045  an older form
    (Union[int, list[int], str], [1], [1]),  # noqa: UP007  an older form
    (int | dt.date | str, "2025-01-02", dt.date(2025, 1, 2)),
    (uuid.UUID, "0" * 32, uuid.UUID(int=0)),
    (pathlib.Path, "a/b", pathlib.Path("a/b")),
    (dt.time, "09:30", dt.time(9, 30)),
    (dt.timedelta, 1.5, dt.timedelta(seconds=1.5)),
    (Decimal, "1.50", Decimal("1.50")),
    (Decimal, 0.1, Decimal("0.1")),
    (Any, {"a": [1]}, {"a": [1]}),
    (list, [1, "a"], [1, "a"]),
    (float, 3, 3.0),
    (int, 3.0, 3),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "data", "built"), BUILT, ids=range(len(BUILT)))
def test_data_becomes_an_instance(hint: Any, data: Any, built: Any) -> None:
    form = compile_hint(hint)
    assert compile_schema(form.schema).problems(data) == ()
    assert form.fits(data)
    made = form.build(data)
    assert made == built
    assert type(made) is type(built)


REJECTED: list[tuple[Any, Any]] = [
    (Level, 3),
    (Level, True),
    (Literal[1], True),
    (Box[int], {"item": "x"}),
    (Box[int], {"item": 1, "extra": 1}),
    (Box[int], {"item": 1, "more": [{"item": "x"}]}),
    (Derived, {"number": 1, "when": "x", "pair": {"left": 1}}),
    (Derived, {"number": 1, "hidden": 1, "when": "2025-01-02", "pair": {"left": 1}}),
    (Partial, {"b": []}),
    (tuple[int, str], [1]),
    (set[int], [1, 1]),
    (dict[int, float], {"x": 1}),
    (int, "12"),
    (int, 2.5),
    (bool, 1),
    (Decimal, "NaN"),
]


@pytest.mark.parametrize(("hint", "data"), REJECTED, ids=range(len(REJECTED)))
def test_other_data_is_rejected_by_the_schema(hint: Any, data: Any) -> None:
    assert compile_schema(compile_hint(hint).schema).problems(data)


def test_constraints_and_descriptions_are_in_the_schema() -> None:
    number = Annotated[int, Ge(1), Gt(0), MultipleOf(2), "a number"]
    text = Annotated[str, Field(min_length=2, pattern="^a", description="a text")]
    items = Annotated[list[int], Len(1, 3)]
    assert compile_hint(number).schema == {
        "type": "integer",
        "minimum": 1,
        "exclusiveMinimum": 0,
        "multipleOf": 2,
        "description": "a number",
    }
    assert compile_hint(text).schema == {"type": "string", "minLength": 2, "pattern": "^a", "description": "a text"}
    assert compile_hint(items).schema == {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3}
    assert compile_hint(Annotated[dict[str, int], MaxLen(2)]).schema["maxProperties"] == 2
    schema = compile_hint(Derived).schema
    assert schema["properties"]["number"] == {"type": "integer", "description": "how many"}
    assert schema["required"] == ["number", "when", "pair"]
    assert compile_hint(Base).schema["description"] == "A documented class."


@pytest.mark.parametrize(
    "hint",
    [object(), "Missing", complex, type, dict[tuple[int, int], str], list[complex], lambda: 1, enum.Enum("E", [])],
)
def test_other_hints_are_refused(hint: Any) -> None:
    with pytest.raises(HintError):
        compile_hint(hint)


def test_endless_types_are_refused() -> None:
    hint: Any = int
    for _ in range(60):
        hint = list[hint]
    with pytest.raises(HintError, match="at most 40 levels"):
        compile_hint(hint)


def test_instances_become_plain_data() -> None:
    made: list[Any] = [Box(Level.HIGH, [Box(Pair(1))]), {Odd.A: (1, {2})}]
    assert to_plain(made) == [
        {"item": 2, "more": [{"item": {"left": 1, "right": "r"}, "more": []}]},
        {"A": (1, {2})},
    ]
    loop: list[Any] = []
    loop += [loop, loop]
    assert to_plain(loop) == [loop, loop]
