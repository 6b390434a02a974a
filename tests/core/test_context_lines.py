"""One line that says what kind of thing ``context`` is."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from rlm.core.describe import describe_context


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "None: there is no input"),
        ("abc", "a str of 3 characters"),
        (["ab", "c"], "a list of 2 items (str), 3 characters in all"),
        ([1, "a"], "a list of 2 items (int, str)"),
        ([], "an empty list"),
        ({}, "an empty dict"),
        ({"a": "xy", "b": [1], "c": 2}, "a dict with 3 keys: 'a' (str, 2 characters), 'b' (list, 1 items), 'c' (int)"),
        ([{"role": "user", "content": "hi"}], "a list of 1 messages, each a dict with 'role' and 'content'"),
        (BytesIO(b"x"), "a str: the text of the file without a name"),
        (3.5, "of type float"),
    ],
)
def test_descriptions(value: object, told: str) -> None:
    assert describe_context(value) == told


def test_a_file_is_named_without_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("text")
    with path.open("rb") as file:
        assert describe_context(file) == "a str: the text of the file book.txt"


def test_many_keys_are_cut() -> None:
    told = describe_context({f"k{n}": n for n in range(100)})
    assert told.endswith("and 80 more")
