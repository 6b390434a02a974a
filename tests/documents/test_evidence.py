"""Quotes are found where they stand; coverage equals the truth that the test knows."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlm.core.evidence import WINDOW_CHARS, CoverageMeter, find_quote, measure_coverage

WORDS = ["harbour", "contract", "supplier", "delivery", "penalty", "invoice", "seventeen", "clause", "annex", "governing",
         "liability", "notice"]  # fmt: skip


def prose(seed: int, lines: int) -> str:
    draw = random.Random(seed)
    return "".join(f"{number}. {' '.join(draw.choices(WORDS, k=12))} {draw.random()}\n" for number in range(lines))


def test_quotes_are_found_where_they_stand() -> None:
    texts = {f"{n}.txt": prose(n, 200) for n in range(5)}
    draw = random.Random(1)
    for _ in range(1_000):
        path = draw.choice(list(texts))
        start = draw.randrange(len(texts[path]) - 120)
        quote = texts[path][start : start + draw.randrange(40, 120)].strip()
        found = find_quote(quote, texts, path)
        assert found is not None
        name, begin, end, exact = found
        assert (texts[name][begin:end], exact) == (quote, True)


@pytest.mark.parametrize(
    ("text", "quote"),
    [
        ("the agreed\n   price of  five", "the agreed price of five"), ("price\u00a0of five", "price of five"),
        ("a non\u2011binding \u201coffer\u201d", 'a non-binding "offer"'), ("it\u2019s due \u2013 now", "it's due - now"),
        ("an agree-\nment was made", "an agreement was made"), ("a soft\u00adened tone", "a softened tone"),
    ],
)  # fmt: skip
def test_quotes_with_other_spacing_are_found_and_marked(text: str, quote: str) -> None:
    found = find_quote(quote, {"a": f"Before. {text} After."})
    assert found is not None
    _, start, end, exact = found
    assert (f"Before. {text} After."[start:end], exact) == (text, False)


def test_invented_quotes_are_not_found() -> None:
    texts = {"a": prose(3, 500)}
    draw = random.Random(2)
    for _ in range(40):
        assert find_quote(" ".join(draw.choices(WORDS, k=9)) + " invented", texts) is None
    assert find_quote("   ", texts) is None


def test_hostile_quotes_are_refused_quickly() -> None:
    texts = {"a": "harbour " * 200_000}
    start = time.process_time()
    assert find_quote("harbour " * 30 + "x", texts) is None
    assert time.process_time() - start < 5


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 15_000), st.integers(200, 9_000)), max_size=12),
    st.sampled_from(["", "Read this:\n\n"]),
)
def test_coverage_equals_what_was_sent(pieces: list[tuple[int, int]], prefix: str) -> None:
    text = prose(7, 150)
    sent = [(min(start, len(text)), min(start + length, len(text))) for start, length in pieces]
    coverage = measure_coverage(
        {"a": text, "b": prose(8, 50)}, [prefix + text[start:end] + "\nThanks." for start, end in sent]
    )
    truth = {at for start, end in sent if end - start >= 64 for at in range(start, end)}
    shown = {at for start, end in coverage.documents[0].ranges for at in range(start, end)}
    assert truth - shown == set()
    assert len(shown - truth) <= 3 * len(sent) * WINDOW_CHARS
    assert coverage.documents[1].ranges == ()


def test_summary_names_unopened_files() -> None:
    texts = {"a.pdf": prose(1, 100), "b.pdf": prose(2, 100), "short.txt": "A short note."}
    coverage = measure_coverage(texts, [texts["a.pdf"], "Note: A short note."])
    assert coverage.summary() == "read 50 % of 3 files; not opened: b.pdf"
    assert coverage.documents[1].unread() == ((0, len(texts["b.pdf"])),)
    assert measure_coverage({"a": texts["a.pdf"]}, [texts["a.pdf"]]).summary() == "read 100 % of 1 file"


def test_coverage_measures_fifty_megabytes_a_second() -> None:
    text = prose(1, 60_000)
    meter = CoverageMeter({"a": text})
    start = time.process_time()
    for at in range(0, len(text), 20_000):
        meter.add("Summarise this piece.\n\n" + text[at : at + 20_000])
    spent = time.process_time() - start
    assert len(text) / 1e6 / spent > 50


def test_frequent_phrases_are_not_counted_elsewhere() -> None:
    phrase = "of the register: the amount that was due was "
    lines = [f"Entry {number:08d} {phrase}{number * 7919 % 100_003} for ship {number}.\n" for number in range(4000)]
    text = "".join(lines)
    meter = CoverageMeter({"a": text}, stride=1000)
    shown = [(start, start + 20_000) for start in range(537, 270_000, 30_000)]
    for start, end in shown:
        meter.add(text[start:end])
    assert meter.coverage().documents[0].ranges == tuple(shown)
