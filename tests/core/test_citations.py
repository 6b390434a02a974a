"""Answers with quotes: looked up in the sources, returned to the model once if a quote is invented."""

from __future__ import annotations

import json
import random

import pytest

from rlm.core.actions import Ask, CheckQuotes, Executed, Finish, LimitMet, QuotesChecked, Replied, Started
from rlm.core.cells import Answer, CellResult, Quote
from rlm.core.corpus import Corpus
from rlm.core.evidence import Citation
from rlm.core.node import Node, step
from rlm.core.node_spec import NodeSpec
from rlm.prompts import first_message

FOUND = Citation("a", "line 1", "words", 0, 5, verified=True, exact=True)
MISSING = Citation("", "", "invented")
SPEC = NodeSpec("q", "a str", "system", max_turns=3, observation_chars=1000, checks_quotes=True)


def answered(node: Node, quotes: tuple[Quote, ...], value: str = "x") -> tuple[Node, object]:
    """Plays one turn whose cell answers with quotes."""
    node, _ = step(node, Replied("```repl\nFINAL('x')\n```"))
    return step(node, Executed(CellResult("ok", answer=Answer(value, quotes))))


def begun(spec: NodeSpec = SPEC) -> Node:
    return step(Node(spec), Started())[0]


def test_found_quotes_travel_with_answer() -> None:
    node, action = answered(begun(), (Quote("words"),))
    assert action == CheckQuotes((Quote("words"),))
    _, action = step(node, QuotesChecked((FOUND,)))
    assert action == Finish("x", citations=(FOUND,))


def test_quotes_of_earlier_cells_count_once() -> None:
    node, _ = step(begun(), Replied("```repl\ncite('words')\n```"))
    node, _ = step(node, Executed(CellResult("ok", citations=(Quote("words"), Quote("more", "a")))))
    _, action = answered(node, (Quote("words"),))
    assert action == CheckQuotes((Quote("words"), Quote("more", "a")))


def test_invented_quote_returns_answer_once() -> None:
    node, _ = answered(begun(), (Quote("invented"),))
    node, action = step(node, QuotesChecked((MISSING,)))
    assert isinstance(action, Ask)
    assert "invented" in action.messages[-1].text
    node, _ = answered(node, (Quote("invented"),), "y")
    _, action = step(node, QuotesChecked((MISSING,)))
    assert action == Finish("y", citations=(MISSING,))


@pytest.mark.parametrize("max_turns", [1, 3])
def test_returned_answer_survives_limits(max_turns: int) -> None:
    spec = NodeSpec("q", "a str", "system", max_turns=max_turns, observation_chars=1000, checks_quotes=True)
    node, _ = answered(begun(spec), (Quote("invented"),))
    node, action = step(node, QuotesChecked((MISSING,)))
    if max_turns == 1:  # no turn is left for another answer
        assert action == Finish("x", citations=(MISSING,))
        return
    node, _ = step(node, LimitMet("usd"))
    _, action = step(node, LimitMet("usd"))
    assert action == Finish("x", "usd", citations=(MISSING,))


@pytest.mark.parametrize(
    ("text", "answer", "quotes"),
    [
        ('FINAL(It is 5, cite=["words", \'more "words"\'])', "It is 5", (Quote("words"), Quote('more "words"'))),
        ('FINAL("It is (5)", cite="words")', "It is (5)", (Quote("words"),)),
        ('FINAL("x", cite = [("words", "a.pdf")])', "x", (Quote("words", "a.pdf"),)),
        ("FINAL(see p. 5, cite=[unquoted words])", "see p. 5, cite=[unquoted words]", ()),
        ("FINAL(they cite = signs, cite=[])", "they cite = signs, cite=[]", ()),
    ],
)
def test_quotes_of_answer_in_text(text: str, answer: str, quotes: tuple[Quote, ...]) -> None:
    node, action = step(begun(), Replied(text))
    assert action == (CheckQuotes(quotes) if quotes else Finish(answer))
    if quotes:
        assert step(node, QuotesChecked((FOUND,)))[1] == Finish(answer, citations=(FOUND,))


def test_children_answer_without_check() -> None:
    spec = NodeSpec("q", "a str", "system", max_turns=3, observation_chars=1000)
    assert answered(begun(spec), (Quote("words"),))[1] == Finish("x")


def side_table(pages: dict[str, list[str]]) -> tuple[dict[str, str], str]:
    items, texts = [], {}
    for path, parts in pages.items():
        starts = [sum(map(len, parts[:number])) for number in range(len(parts))]
        places = [[start, f"p. {number}"] for number, start in enumerate(starts, 1)]
        items.append({"path": path, "kind": "pdf", "pages": len(parts), "places": places})
        texts[path] = "".join(parts)
    return texts, json.dumps(items)


def test_thousand_quotes_land_on_their_pages() -> None:
    rng = random.Random(7)
    words = [f"{rng.choice('bcdfghklmnprst')}{rng.choice('aeiou')}{number}" for number in range(4000)]
    pages = {f"folder/{name}.pdf": [" ".join(rng.choices(words, k=200)) + "\n" for _ in range(10)] for name in "abc"}
    corpus = Corpus(*side_table(pages))
    wanted, quotes = [], []
    for number in range(1000):
        path = rng.choice(list(pages))
        page = rng.randrange(10)
        text = pages[path][page].split()
        start = rng.randrange(len(text) - 12)
        separator = " " if number % 2 else "\n  "
        quotes.append(Quote(separator.join(text[start : start + 8]), path.rpartition("/")[2] if number % 3 else None))
        wanted.append((path, f"p. {page + 1}", True))
    found = corpus.cite(quotes)
    assert [(citation.path, citation.place, citation.verified) for citation in found] == wanted
    assert all(citation.exact == bool(number % 2) for number, citation in enumerate(found))
    invented = [Quote(" ".join(rng.choices(words, k=8))) for _ in range(200)]
    assert not any(citation.verified for citation in corpus.cite(invented))


def test_description_names_kinds_counts_and_sizes() -> None:
    texts, side = side_table({"a.pdf": ["one", "two"], "b.pdf": ["three"]})
    assert Corpus(texts, side).description == (
        "a dict of 2 documents, path to text (2 pdf with 3 pages; 11 characters): "
        "'a.pdf' (pdf, 2 pages), 6 characters; 'b.pdf' (pdf, 1 page), 5 characters"
    )
    assert Corpus(*side_table({})).has_documents


def test_first_lines_are_short_and_escaped() -> None:
    texts, side = side_table({"a.pdf": ["\n---\nRent  of the\tharbour\n" + "x" * 500, "two"], "b\x1b.pdf": ["  \n"]})
    corpus = Corpus(texts, side)
    assert corpus.first_lines() == [("a.pdf", f"Rent of the harbour / {'x' * 100}"), ("b\x1b.pdf", "")]
    shown = first_message("When?", corpus.description, [*corpus.first_lines(), ("c\x1b[2J", "evil\x1b\u202e")])
    assert shown.endswith(
        f"\nFirst lines:\n'a.pdf': 'Rent of the harbour / {'x' * 100}'\n'c\\x1b[2J': 'evil\\x1b\\u202e'"
    )
    many = {f"{number}.txt": [f"Note {number} " + "word " * 500] for number in range(1_000)}
    lines = Corpus(*side_table(many)).first_lines()
    assert len(lines) == 20
    assert sum(len(text) for _, text in lines) <= 3_000


def test_children_have_places_of_whole_documents() -> None:
    texts, side = side_table({"a.pdf": ["one", "two"], "b.pdf": ["three"]})
    corpus = Corpus(texts, side)
    assert [item["path"] for item in json.loads(corpus.side_table_for("three"))] == ["b.pdf"]
    assert [item["path"] for item in json.loads(corpus.side_table_for({"a.pdf": "onetwo", "b.pdf": "cut"}))] == [
        "a.pdf"
    ]
    assert corpus.side_table_for("part") == corpus.side_table_for(None) == ""
