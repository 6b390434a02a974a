"""Untrusted text cannot act on a terminal, and stays readable."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.views.escape import one_line, safe_text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b31mred", "red"),
        ("\x1b]0;new title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b]52;c;cm0gLXJmIC8=\x07paste", "paste"),
        ("\x1bPq sixel \x1b\\after", "after"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("\x1bcreset", "reset"),
        ("a\x1b]0;never ended", "a0;never ended"),
        ("\x1b\x1b[31[31m", "31m"),
        ("pay\u202e99$\u202c", "pay99$"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("tag\U000e0041s", "tags"),
        ("half\ud800", "half"),
        ("bell\x07 back\x08 del\x7f null\x00", "bell back del null"),
        ("safe\rover", "safe\nover"),
        ("one\r\ntwo\tthree", "one\ntwo\tthree"),
        ("Grüße, 日本語, 🙂 [bold]not markup[/bold]", "Grüße, 日本語, 🙂 [bold]not markup[/bold]"),
    ],
)
def test_terminal_sequences_are_removed(hostile: str, shown: str) -> None:
    assert safe_text(hostile) == shown


@given(st.text(alphabet=st.characters(codec=None)))
def test_control_and_hidden_characters_are_removed(text: str) -> None:
    kept = safe_text(text)
    assert all(char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cs", "Zl", "Zp") for char in kept)
    assert not set(kept) & set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")


@given(st.text(alphabet=st.sampled_from("\x1b\x9b[]0;m?\x07\\Pc8a \n\r\x9d\x9c")))
def test_no_order_of_removals_leaves_an_introducer(text: str) -> None:
    assert not set(safe_text(text)) & set("\x1b\x9b\x9d\x9c\x07\r")


@given(st.text(), st.integers(1, 60))
def test_one_line_stays_within_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line
    assert "\t" not in line


def test_one_line_says_that_it_was_cut() -> None:
    assert one_line("a b  c\n d", 20) == "a b c d"
    assert one_line("abcdefgh", 5) == "abcd…"
    assert one_line(" " * 1000 + "text", 5).endswith("…")


def test_one_line_does_not_read_megabytes() -> None:
    text = "\x1b]" * 10_000_000
    began = time.perf_counter()
    one_line(text, 100)
    assert time.perf_counter() - began < 0.1


def test_unclosed_sequences_do_not_take_quadratic_time() -> None:
    began = time.perf_counter()
    safe_text("\x1b]" * 100_000)
    safe_text("\x9d" * 100_000)
    safe_text("\x1b[" * 100_000)
    safe_text("\x1b" + " " * 200_000)
    assert time.perf_counter() - began < 5
