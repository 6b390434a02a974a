"""``rlm ask --schema``: short forms, files, classes, and the data in the output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_process import cell, rlm, root_writes, serving

from rlm.core.errors import SchemaError
from rlm.schemas.shorthand import read_shorthand

TEXT = {"type": "string"}
INTEGER = {"type": "integer"}
MODEL = ["--model", "gpt-4o", "-q"]


def record(*optional: str, **properties: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


SHORT: list[tuple[str, dict[str, Any]]] = [
    ("name, age int", record(name=TEXT, age=INTEGER)),
    ("name,age int,", record(name=TEXT, age=INTEGER)),
    ("name: str, age: int", record(name=TEXT, age=INTEGER)),
    ("name?, age int?", record("name", "age", name=TEXT, age=INTEGER)),
    ("name\nage int: in years, rounded\n", record(name=TEXT, age={**INTEGER, "description": "in years, rounded"})),
    ("name: the person's name", record(name={**TEXT, "description": "the person's name"})),
    (
        "tags list[str], ids int[]",
        record(tags={"type": "array", "items": TEXT}, ids={"type": "array", "items": INTEGER}),
    ),
    ("at datetime | null", record(at={"anyOf": [{**TEXT, "format": "date-time"}, {"type": "null"}]})),
    ("home {street, zip int}, x", record(home=record(street=TEXT, zip=INTEGER), x=TEXT)),
    ("home {\n  street\n  zip int\n}\nx", record(home=record(street=TEXT, zip=INTEGER), x=TEXT)),
    ("kind 'a' | 'b'", record(kind={"enum": ["a", "b"]})),
    ("per dict[str, int]", record(per={"type": "object", "additionalProperties": INTEGER})),
    ("'first name' str", record(**{"first name": TEXT})),
    ("größe float", record(größe={"type": "number"})),
    ("{name}[]", {"type": "array", "items": record(name=TEXT)}),
    ("list[{name}]", {"type": "array", "items": record(name=TEXT)}),
    ("int", INTEGER),
    ("set[int]", {"type": "array", "items": INTEGER, "uniqueItems": True}),
    ('"yes" | "no" | 3', {"enum": ["yes", "no", 3]}),
    ("date, place", record(date=TEXT, place=TEXT)),
]
WRONG = [
    ("", "must not be empty"),
    ("age innt", "unknown type 'innt' in the schema: did you mean 'int'"),
    ("age int extra", "must go on with a comma, or the end at character 8; got 'extra'"),
    ("a,,b", "must go on with the name of a field at character 3"),
    ("name, name", "has the field 'name' twice"),
    ("x {a", "must go on with '}'"),
    ("list[int", "must go on with ']'"),
    ("x dict[int, str]", "keys of a dict must be str"),
    ("a" * 30_000, "at most 20,000 characters"),
    ("x " + "{x " * 100, "at most 20 levels"),
    ("x " + "list[" * 1000, "at most 20 levels"),
]


@pytest.mark.parametrize(("text", "schema"), SHORT, ids=[text for text, _ in SHORT])
def test_short_forms_are_read(text: str, schema: dict[str, Any]) -> None:
    assert read_shorthand(text) == schema


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[text[:20] for text, _ in WRONG])
def test_wrong_short_forms_name_the_place(text: str, message: str) -> None:
    with pytest.raises(SchemaError) as caught:
        read_shorthand(text)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 300


def test_answer_is_printed_as_data(tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(
        "from dataclasses import dataclass\nimport datetime\n"
        "@dataclass\nclass Person:\n    name: str\n    born: datetime.date\n"
    )
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    (tmp_path / "person.json").write_text(json.dumps(schema))
    data = {"name": "Ann", "born": "2025-01-02"}
    for flag in ("name, born date", "person.json", "kinds:Person", json.dumps(schema)):
        with serving(root_writes(cell(f"FINAL({data!r})"))) as server:
            ended = rlm(
                "ask", "Who?", "-", "--schema", flag, "--json", *MODEL, server=server, stdin=b"abc", cwd=tmp_path
            )
            shown = rlm("ask", "Who?", "-", "--schema", flag, *MODEL, server=server, stdin=b"abc", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["answer"] == data
        assert json.loads(shown.stdout) == data
        assert "name: string" in server.calls[0].prompt


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("missing.json", "cannot read the schema missing.json"),
        ("broken.json", "broken.json must hold a JSON schema"),
        ("list.json", "which is an object; got list"),
        ("missing_module:Person", "cannot import the schema missing_module:Person: ModuleNotFoundError"),
        ("age innt", "unknown type 'innt'"),
        ('{"$ref": "http://example.com"}', "must name a part of the same schema"),
    ],
)
def test_unusable_flags_end_before_anything_is_spent(flag: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[1]")
    with serving(root_writes(cell("FINAL(1)"))) as server:
        ended = rlm("ask", "Who?", "-", "--schema", flag, *MODEL, server=server, stdin=b"abc", cwd=tmp_path)
    assert ended.returncode != 0
    assert message in ended.stderr.decode()
    assert server.calls == []
