"""Value classes: dataclasses in everything but the cost of their import."""

import copy
import dataclasses
import inspect
import pickle
from dataclasses import field

import pytest

from rlm.core.values import frozen, slotted


@frozen
class Point:
    """A point."""

    x: int
    y: int = 2
    tags: list[str] = field(default_factory=list, compare=False)
    note: str = field(default="n", repr=False, kw_only=True)
    double: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "double", self.x * 2)


@frozen(kw_only=True)
class Named(Point):
    name: str = "p"


@frozen
class Empty:
    pass


@slotted
class Counter:
    count: int = 0


def test_fields_defaults_and_post_init() -> None:
    point = Point(1, note="m")
    assert (point.x, point.y, point.tags, point.note, point.double) == (1, 2, [], "m", 2)
    assert point.tags is not Point(1).tags
    assert not hasattr(point, "__dict__")


@pytest.mark.parametrize(
    ("values", "named"), [((), {"y": 1}), ((1, 2, [], "m"), {}), ((1,), {"z": 1}), ((1,), {"double": 3})]
)
def test_constructor_rejects_wrong_arguments(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match=r"__init__\(\)"):
        Point(*values, **named)  # type: ignore[arg-type]


def test_equality_hash_and_order_of_fields() -> None:
    assert Point(1) == Point(1, tags=["other"])
    assert hash(Point(1)) == hash(Point(1, tags=["other"]))
    assert Point(1) != Point(2)
    assert Point(1) != Named(x=1, y=2)
    assert Empty() == Empty()
    assert {Point(1): "found"}[Point(1)] == "found"
    assert Counter(1) == Counter(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Counter())


def test_frozen_fields_refuse_changes() -> None:
    point = Point(1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
        del point.x
    counter = Counter()
    counter.count += 1
    assert counter.count == 1


def test_repr_names_fields() -> None:
    assert repr(Point(1)) == "Point(x=1, y=2, tags=[], double=2)"
    point = Point(1)
    point.tags.append(point)  # type: ignore[arg-type]
    assert repr(point) == "Point(x=1, y=2, tags=[...], double=2)"


def test_standard_functions_treat_them_as_dataclasses() -> None:
    kind: type = Point
    assert dataclasses.is_dataclass(kind)
    assert dataclasses.asdict(Named(x=1)) == {"x": 1, "y": 2, "tags": [], "note": "n", "double": 2, "name": "p"}
    assert dataclasses.replace(Named(x=1, name="q"), y=5) == Named(x=1, y=5, name="q")
    for point in (Point(3), Named(x=1, name="q"), Counter(4)):
        assert copy.deepcopy(point) == point
        assert pickle.loads(pickle.dumps(point)) == point
    match Point(7):
        case Point(x, y):
            assert (x, y) == (7, 2)


def test_signature_is_known_before_first_object() -> None:
    @frozen
    class Fresh:
        a: int
        b: str = "x"

    assert list(inspect.signature(Fresh).parameters) == ["a", "b"]
    assert inspect.signature(Fresh).parameters["b"].default == "x"
    assert Fresh.__doc__ == "Fresh"


def test_plain_subclass_keeps_its_own_constructor() -> None:
    class Sub(Point):
        def __init__(self) -> None:
            super().__init__(9)

    assert Sub().double == 18
    assert list(inspect.signature(Sub).parameters) == []
