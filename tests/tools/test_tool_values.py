"""Arguments of tools compared with annotations, and results as plain data."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, Literal, TypedDict

import pydantic
import pytest
from tool_kit import output

import rlm
from rlm.core.tools import ToolFailure


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Order(TypedDict, total=False):
    name: str
    amounts: list[int]


Tree = dict[str, "Tree | int"]


def accept(
    number: int = 0,
    share: float = 0.0,
    word: Literal["a", "b"] = "a",
    colour: Colour = Colour.RED,
    order: Order | None = None,
    pair: tuple[int, str] = (0, ""),
    names: list[str] | None = None,
    *rest: bytes,
    flag: bool = False,
    **more: int | str,
) -> str:
    return repr((number, share, word, colour, order, pair, names, rest, flag, more))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ("1, 2", "(1, 2, 'a', <Colour.RED: 'red'>, None, (0, ''), None, (), False, {})"),
        ("word='b', colour='blue'", "(0, 0.0, 'b', <Colour.BLUE: 'blue'>, None, (0, ''), None, (), False, {})"),
        (
            "order={'amounts': [1]}",
            "(0, 0.0, 'a', <Colour.RED: 'red'>, {'amounts': [1]}, (0, ''), None, (), False, {})",
        ),
        ("pair=[1, 'x'], names=('y',)", "(0, 0.0, 'a', <Colour.RED: 'red'>, None, (1, 'x'), ['y'], (), False, {})"),
        (
            "flag=True, x=1, y='z'",
            "(0, 0.0, 'a', <Colour.RED: 'red'>, None, (0, ''), None, (), True, {'x': 1, 'y': 'z'})",
        ),
        ("True", "`number` must be int; got bool True"),
        ("'1'", "`number` must be int; got str '1'"),
        ("share='x'", "`share` must be float; got str 'x'"),
        ("word='c'", "`word` must be Literal['a', 'b']; got str 'c'"),
        ("colour='green'", "`colour` must be Literal['red', 'blue']; got str 'green'"),
        ("order={'amounts': [1, '2']}", "`order`['amounts'][1] must be int; got str '2'"),
        ("order={'other': 1}", "`order` must be dict (name, amounts) | None; got dict {'other': 1}"),
        ("pair=(1, 2)", "`pair`[1] must be str; got int 2"),
        ("pair=(1, 'a', 2)", "`pair` must be tuple[int, str]; got tuple (1, 'a', 2)"),
        ("names=['a', None]", "`names`[1] must be str; got NoneType None"),
        ("x=1.5", "`more` must be int | str; got float 1.5"),
    ],
)
def test_arguments_are_checked_against_annotations(arguments: str, shown: str) -> None:
    bound = rlm.tool(accept)
    args, kwargs = eval(f"(lambda *args, **kwargs: (args, kwargs))({arguments})")
    if shown.startswith("`"):
        with pytest.raises(ToolFailure) as caught:
            bound.bind(args, kwargs)
        assert str(caught.value) == f"accept: {shown}"
    else:
        given = bound.bind(args, kwargs)
        assert accept(*given.args, **given.kwargs) == shown


def test_recursive_annotation_is_checked_and_bounded() -> None:
    def walk(tree: Tree) -> int:
        return len(tree)

    tool = rlm.tool(walk)
    assert tool.bind([{"a": {"b": 1}}], {}).arguments["tree"] == {"a": {"b": 1}}
    with pytest.raises(ToolFailure, match=r"`tree`\['a'\]\['b'\] must be"):
        tool.bind([{"a": {"b": "x"}}], {})
    deep: Any = 1
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(ToolFailure, match="nested too deep"):
        tool.bind([deep], {})


def test_check_of_hostile_unions_ends() -> None:
    def choose(values: list[Order | dict[str, int] | Literal["x"]]) -> int:
        return len(values)

    with pytest.raises(ToolFailure, match="must be smaller"):
        rlm.tool(choose).bind([[{"a": 1}] * 400_000], {})


@dataclasses.dataclass
class Point:
    x: int
    tags: frozenset[str]


class Found(pydantic.BaseModel):
    name: str
    colour: Colour = Colour.BLUE
    point: Any = None


class Loud(str):
    def __str__(self) -> str:
        raise AssertionError("a method of the result was called")


def give(kind: str) -> Any:
    cycle: list[Any] = []
    cycle.append(cycle)
    return {
        "dataclass": Point(1, frozenset({"a"})),
        "pydantic": Found(name="n", point=Point(2, frozenset())),
        "enum": [Colour.RED],
        "subclass": Loud("text"),
        "object": object(),
        "generator": (n for n in range(2)),
        "cycle": cycle,
        "huge": "x" * 25_000_000,
        "items": list(range(500_000)),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("dataclass", "{'x': 1, 'tags': frozenset({'a'})}"),
        ("pydantic", "{'name': 'n', 'colour': 'blue', 'point': {'x': 2, 'tags': frozenset()}}"),
        ("enum", "['red']"),
        ("subclass", "text"),
        ("object", "ToolError: give: it was executed, but its result holds a builtins.object"),
        ("generator", "ToolError: give: it was executed, but its result holds a builtins.generator"),
        ("cycle", "ToolError: give: it was executed, but its result is too large, nested too deep"),
        ("huge", "ToolError: give: it was executed, but its result is too large"),
        ("items", "ToolError: give: it was executed, but its result is too large"),
    ],
)
def test_results_become_plain_data(kind: str, shown: str) -> None:
    assert output(f"print(give({kind!r}))", tools=[give]).startswith(shown)
