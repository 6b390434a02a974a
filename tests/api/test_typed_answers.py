"""Typed answers through the public API: types, corrections, limits, records, children and leaf calls."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import pydantic
import pytest
from annotated_types import Ge

import rlm
from rlm.core.messages import Reply, Request, Usage
from rlm.testing import ScriptedModel


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Address:
    street: str
    city: str = "Oslo"


@dataclasses.dataclass
class Person:
    name: str
    age: Annotated[int, Ge(0)]
    home: Address | None = None
    tags: set[str] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        if self.name == "nobody":
            raise ValueError("nobody is not a person")


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: float = 0.5


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    born: dt.date
    price: Decimal


class Pet(pydantic.RootModel[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]):
    pass


class Loud(pydantic.BaseModel):
    word: str

    @pydantic.field_validator("word")
    @classmethod
    def check_case(cls, value: str) -> str:
        if not value.isupper():
            raise ValueError("write it in upper case")
        return value


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


def run(schema: Any, *replies: str, **options: Any) -> tuple[rlm.Result[Any], ScriptedModel]:
    root = ScriptedModel(list(replies))
    with rlm.RLM(root, **{"store": None, **options}) as engine:
        return engine.run("q", "text of the context", schema=schema), root


D = dt.date(2025, 1, 2)
ANSWERS: list[tuple[Any, str, Any]] = [
    (Person, 'FINAL({"name": "Ann", "age": 3})', Person("Ann", 3)),
    (
        Person,
        cell("FINAL({'name': 'Ann', 'age': 3, 'home': {'street': 'A 1'}, 'tags': {'x'}})"),
        Person("Ann", 3, Address("A 1"), {"x"}),
    ),
    (Movie, 'FINAL({"title": "M"})', {"title": "M"}),
    (Point, 'FINAL({"x": 1})', Point(1)),
    (Color, "FINAL(red)", Color.RED),
    (Literal["yes", "no"], 'FINAL("yes")', "yes"),
    (list[int], "numbers = 3\nFINAL([1, 2])", [1, 2]),
    (dict[str, Address], 'FINAL({"a": {"street": "s"}})', {"a": Address("s")}),
    (tuple[int, str], "FINAL((1, 'a'))", (1, "a")),
    (int | None, "FINAL(None)", None),
    (float, "FINAL(3)", 3.0),
    (str, "FINAL(3)", "3"),
    (dt.date, cell("import datetime\nFINAL(datetime.date(2025, 1, 2))"), dt.date(2025, 1, 2)),
    (Decimal, cell("from decimal import Decimal\nFINAL(Decimal('1.50'))"), Decimal("1.5")),
    (Dog, 'FINAL({"kind": "dog", "born": "2025-01-02", "price": "1.50"})', Dog(kind="dog", born=D, price=Decimal("1.5"))),
    (Pet, 'FINAL({"kind": "cat", "lives": "9"})', Pet(Cat(kind="cat", lives=9))),
    (list[Cat], '```json\n[{"kind": "cat", "lives": 9}]\n```\nFINAL_VAR(answer)', None),
    ({"type": "array", "items": {"type": "number"}}, "FINAL([1, 2.5])", [1, 2.5]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("schema", "reply", "answer"), [row for row in ANSWERS if row[2] is not None or "None" in row[1]]
)
def test_answer_is_an_instance(schema: Any, reply: str, answer: Any) -> None:
    result, _ = run(schema, reply)
    assert result.answer == answer
    assert type(result.answer) is type(answer)
    assert result.status == "complete"


def test_instances_made_in_cells_are_answers() -> None:
    code = (
        "from dataclasses import dataclass\nfrom enum import Enum\n"
        "class Color(Enum):\n    RED = 'red'\n"
        "@dataclass\nclass Made:\n    name: str\n    age: int\n    tags: list\n"
        "made = Made('Ann', 3, [Color.RED])"
    )
    for ending in (
        "\nFINAL(made)\n```",
        "\n```\nFINAL_VAR(made)",
        "\nanswer['content'] = made; answer['ready'] = True\n```",
    ):
        result, _ = run(Person, f"```repl\n{code}{ending}")
        assert result.answer == Person("Ann", 3, tags={"red"})
        assert result.data == {"name": "Ann", "age": 3, "tags": ["red"]}


def test_misfit_is_returned_with_paths_and_reasons() -> None:
    result, root = run(
        Person,
        cell("print('seen')\nFINAL({'name': 3, 'home': {}})"),
        'FINAL({"name": "nobody", "age": 1})',
        'FINAL({"name": "Ann", "age": 1})',
    )
    assert result.answer == Person("Ann", 1)
    first, second = (request.messages[-1].text for request in root.requests[1:])
    assert first.startswith("seen\n[Your answer was not accepted, because it does not have the required type.")
    assert first.endswith("- age is missing\n- name must be a string; got 3\n- home.street is missing")
    assert "the answer was rejected: ValueError: nobody is not a person" in second


def test_validators_of_pydantic_models_are_applied() -> None:
    result, root = run(Loud, 'FINAL({"word": "quiet"})', 'FINAL({"word": "LOUD"})')
    assert result.answer == Loud(word="LOUD")
    assert 'word: Value error, write it in upper case; got "quiet"' in root.requests[1].messages[-1].text


def test_first_message_shows_the_type() -> None:
    _, root = run(Person, 'FINAL({"name": "Ann", "age": 3})')
    shown = root.requests[0].messages[1].text
    assert "The answer must be a value of this type:\n```\n{\n  name: string\n  age: integer  // at least 0\n" in shown
    assert "FINAL(value)" in shown


def test_untyped_runs_are_unchanged() -> None:
    result, root = run(None, cell("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nFINAL(A(1))"))
    assert result.answer == "A(x=1)"
    assert "type" not in root.requests[0].messages[1].text


def test_limit_ends_with_valid_answer_or_typed_error() -> None:
    result, _ = run(int, "FINAL(four)", "I count 4 of them.", "4", max_iterations=2)
    assert (result.answer, result.status) == (4, "partial")
    with pytest.raises(
        rlm.AnswerDoesNotFitError, match="does not fit its schema: the answer must be an integer"
    ) as caught:
        run(int, "FINAL(four)", "FINAL(five)", max_iterations=1)
    assert caught.value.problems == ('the answer must be an integer; got text that is not JSON: "five"',)
    assert (caught.value.value, caught.value.limit) == ("five", "iterations")
    assert caught.value.result is not None
    assert caught.value.result.answer is None


def test_citations_go_with_typed_answers() -> None:
    rejected = cell("FINAL({'name': 1}, cite=['not this'])")
    result, _ = run(Movie, rejected, cell("FINAL({'title': 'M'}, cite=['text of the'])"), citations=True)
    assert result.answer == {"title": "M"}
    assert [(citation.quote, citation.verified) for citation in result.citations] == [("text of the", True)]
    in_text, _ = run(Movie, 'FINAL({"title": "M"}, cite=["context"])', citations=True)
    assert (in_text.answer, in_text.citations[0].quote) == ({"title": "M"}, "context")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (object(), "cannot be expressed as a JSON schema"),
        (dict[tuple[int], str], "keys of a dict"),
        ({"$ref": "http://example.com"}, "must name a part of the same schema"),
        ({"type": "strin"}, "`type` must be one of"),
        ("Person", "is not defined"),
    ],
)
def test_unusable_schemas_are_refused_before_anything_is_spent(schema: Any, message: str) -> None:
    root = ScriptedModel([])
    with rlm.RLM(root, store=None) as engine, pytest.raises(rlm.SchemaError, match=message):
        engine.run("q", "c", schema=schema)
    assert root.requests == []


async def test_all_entry_points_return_instances() -> None:
    reply = 'FINAL({"name": "Ann", "age": 3})'
    person = Person("Ann", 3)
    with rlm.RLM(ScriptedModel(lambda _: reply), store=None) as engine:
        assert (await engine.arun("q", "c", schema=Person)).answer == person
        assert (await engine.start("q", "c", schema=Person)).answer == person
        stream = engine.stream("q", "c", schema=Person)
        assert [event async for event in stream]
        assert stream.result.answer == person
        async with engine.asession("c") as session:
            assert (await session.ask("q")).answer == '{"name": "Ann", "age": 3}'
            assert (await session.ask("q", schema=Person)).answer == person
    assert rlm.ask("q", "c", ScriptedModel([reply]), schema=Person, store=None).answer == person


def test_completion_returns_an_instance() -> None:
    model: Any = ScriptedModel(['FINAL({"name": "Ann", "age": 3})', "FINAL(3)"])
    engine = rlm.RLM_REPL(model=model, recursive_model=model, enable_logging=False, store=None)
    assert engine.completion("c", "q", schema=Person) == Person("Ann", 3)
    assert engine.last_result is not None
    assert engine.last_result.data == {"name": "Ann", "age": 3}
    assert engine.completion("c", "q") == "3"


# Sub-calls.

TYPES = """
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Optional, TypedDict
class Color(Enum):
    RED = "red"
    BLUE = "blue"
@dataclass
class Thing:
    name: str
    color: Color
    parts: "list[Thing] | None" = None
class Row(TypedDict, total=False):
    n: int
"""


def ask_leaf(code: str, replies: Sequence[str] | Callable[[Request], str], **options: Any) -> tuple[Any, ScriptedModel]:
    leaf = ScriptedModel(replies if callable(replies) else list(replies), name="scripted:leaf")
    root = ScriptedModel([cell(TYPES + code)])
    with rlm.RLM(root, sub_model=leaf, **{"store": None, **options}) as engine:
        return engine.run("q", "c").answer, leaf


LEAVES = [
    ("Thing", '{"name": "a", "color": "red", "parts": [{"name": "b", "color": "blue"}]}',
     "Thing(name='a', color=<Color.RED: 'red'>, parts=[Thing(name='b', color=<Color.BLUE: 'blue'>, parts=None)])"),
    ("Color", '"red"', "<Color.RED: 'red'>"),
    ("Row", '{"n": 1}', "{'n': 1}"),
    ("list[str]", '["a"]', "['a']"),
    ("Optional[int]", "null", "None"),
    ("Literal['a', 'b']", "b", "'b'"),
    ("{'type': 'object'}", '```json\n{"a": 1}\n```', "{'a': 1}"),
    ("dict[str, Thing]", '{"k": {"name": "a", "color": "red"}}',
     "{'k': Thing(name='a', color=<Color.RED: 'red'>, parts=None)}"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "reply", "shown"), LEAVES, ids=[row[0] for row in LEAVES])
def test_leaf_calls_accept_types_of_the_cell(schema: str, reply: str, shown: str) -> None:
    answer, leaf = ask_leaf(f"FINAL(repr(llm_query('q', schema={schema})))", [reply])
    assert answer == shown
    assert leaf.requests[0].schema is not None


def test_misfit_of_leaf_is_corrected_once() -> None:
    code = "FINAL(repr(llm_query('q', schema=Thing)))"
    answer, leaf = ask_leaf(code, ['{"name": "a", "color": "green"}', '{"name": "a", "color": "red"}'])
    assert answer.startswith("Thing(name='a'")
    assert 'color must be "red" or "blue"; got "green"' in leaf.requests[1].messages[-1].text
    code = "try:\n    llm_query('q', schema=Thing)\nexcept LLMQueryError as error:\n    FINAL(str(error))"
    answer, leaf = ask_leaf(code, ["no", "never", "unused"])
    assert "not the JSON asked for, also after one correction" in answer
    assert len(leaf.requests) == 2


def test_batches_validate_each_reply() -> None:
    code = "FINAL([repr(item) for item in llm_query_batch(['1', '2', '3'], schema=list[int])])"
    answer, leaf = ask_leaf(
        code, lambda request: f"[{request.messages[0].text}]" if "2" not in request.messages[0].text else "x"
    )
    assert answer[0] == "[1]"
    assert answer[1].startswith("'[call failed: ReplyDoesNotFitError")
    assert answer[2] == "[3]"
    assert len(leaf.requests) == 4


def test_usage_counts_both_replies_of_a_correction() -> None:
    def reply(request: Request) -> Reply:
        return Reply("[1]" if len(request.messages) > 1 else "no", Usage(1, 10, output_tokens=5), "scripted:leaf")

    leaf = ScriptedModel(reply, name="scripted:leaf")
    with rlm.RLM(
        ScriptedModel([cell("FINAL(llm_query('q', schema=list[int]))")]), sub_model=leaf, store=None
    ) as engine:
        result = engine.run("q", "c")
    assert result.answer == [1]
    assert result.usage.by_model["scripted:leaf"].usage == Usage(2, 20, output_tokens=10)


def test_children_answer_in_type() -> None:
    code = "FINAL([repr(llm_query('q', schema=Thing)), repr(rlm_query_batched(['a'], schema=list[int]))])"
    replies = ["FINAL(no)", 'FINAL({"name": "a", "color": "red"})', "FINAL([1, 2])"]
    answer, leaf = ask_leaf(code, replies, max_depth=2)
    assert answer == ["Thing(name='a', color=<Color.RED: 'red'>, parts=None)", "[[1, 2]]"]
    assert "parts?: (the whole form again)[] | null" in leaf.requests[0].messages[1].text
    code = "try:\n    llm_query('q', schema=list[int])\nexcept LLMQueryError as error:\n    FINAL(error.kind)"
    assert ask_leaf(code, lambda _: "FINAL(no)", max_depth=2, max_iterations=2)[0] == "AnswerDoesNotFitError"


@pytest.mark.parametrize(
    ("schema", "error"),
    [
        ("{'$ref': 'file:///etc/passwd'}", "SchemaError"),
        ("{'pattern': '(a+)\\\\1'}", "SchemaError"),
        ("{'type': {1, 2}}", "TypeError"),
        ("object()", "TypeError"),
        ("{'x': 'y' * 100_000}", "ValueError"),
    ],
)
@pytest.mark.parametrize("depth", [1, 2])
def test_hostile_schemas_of_cells_are_refused(schema: str, error: str, depth: int) -> None:
    code = f"try:\n    llm_query('q', schema={schema})\nexcept Exception as e:\n    FINAL(getattr(e, 'kind', type(e).__name__))"
    answer, leaf = ask_leaf(code, [], max_depth=depth)
    assert answer == error
    assert leaf.requests == []


def test_expensive_schema_of_cell_stays_bounded() -> None:
    code = (
        "defs = {f'a{n}': {'anyOf': [{'$ref': f'#/$defs/a{n + 1}'}] * 2} for n in range(40)}\n"
        "defs['a40'] = {'type': 'integer'}\n"
        "got = llm_query_batch(['1', '2'], schema={'$ref': '#/$defs/a0', '$defs': defs})\n"
        "FINAL([str(item)[:40] for item in got])"
    )
    answer, _ = ask_leaf(code, lambda _: '"x"')
    assert answer == ["[call failed: ReplyDoesNotFitError: scri"] * 2
