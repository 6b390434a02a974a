"""Patterns of schemas agree with ``re`` and take linear time."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.core.errors import SchemaError
from rlm.schemas.patterns import Pattern

PARTS = (
    "a", "b", "[ab]", "[^a]", "(a|b)", "a*", "b+", "(ab)*", "a?", "^", "$", ".", "(?=a)", "(?!b)", r"\b", r"\B", "(a|b*)*",
    "a{1,3}", "(?:ab|c){2}", r"\d", r"\w+?", r"\s", r"\D", "(a+)+", "|", "-", "b{2,}",
)  # fmt: skip


class Steps:
    """Counts the steps of a match."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, steps: int) -> None:
        self.count += steps


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=6), st.text("abc 1-_\n", min_size=1, max_size=8))
def test_search_agrees_with_re(parts: list[str], text: str) -> None:
    pattern = "".join(parts)
    expected = re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
    assert Pattern(pattern).search(text, Steps()) is expected


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|aa)+$", "^(a|a)*$", "(.*)*x", "^(([a-z])+.)+[A-Z]$"])
def test_catastrophic_patterns_take_linear_steps(pattern: str) -> None:
    short, long = Steps(), Steps()
    Pattern(pattern).search("a" * 500 + "!", short)
    Pattern(pattern).search("a" * 5000 + "!", long)
    assert long.count < 12 * short.count


def test_pydantic_pattern_of_decimals_is_supported() -> None:
    pattern = Pattern(r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$")
    assert [pattern.search(text, Steps()) for text in ("12.50", "-3", "-", "", "x")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize("pattern", ["(", "a{3,1}", "[b-a]", "(?P<x", "*", "(" * 500 + ")" * 500, r"\p{L}"])
def test_invalid_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(SchemaError):
        Pattern(pattern)
