"""Functions that cells call on the input: search by pattern and by words, places, tables and SQL."""

from __future__ import annotations

import time

import pytest
from office_kit import only_document

from rlm.sandbox.worker.repl.documents import DocumentFunctions, Library

TEXTS = {
    "a.txt": "The harbour fee is due in March.\nFather\u00a0Mapple rose in the pulpit.\n" + "filler line\n" * 50,
    "b.txt": "Jonah and the whale.\n" * 3 + "The sermon about Jonah was delivered by Father Mapple.\n",
}


def test_grep_finds_text_across_odd_spaces() -> None:
    library = Library(TEXTS)
    (hit,) = library.grep("father mapple rose")
    assert (hit.path, hit.place) == ("a.txt", "line 2")
    assert "Mapple rose" in hit.text


def test_grep_merges_overlapping_hits_and_bounds_output() -> None:
    library = Library("needle " * 10_000)
    hits = library.grep("needle", k=5)
    assert len(hits) == 5
    assert hits.total < 100
    assert len(repr(hits)) < 6_000
    assert "more hits" in repr(hits)


def test_grep_takes_invalid_patterns_as_text() -> None:
    assert Library("call f(x now").grep("f(x")[0].start == 0


def test_search_ranks_passages_by_rare_words() -> None:
    hits = Library(TEXTS).search("Who delivered the sermon about Jonah?")
    assert hits[0].path == "b.txt"
    assert "delivered by Father Mapple" in hits[0].text
    assert Library(TEXTS).search("???") == []


def test_where_names_document_and_place() -> None:
    side = [{"path": "a.pdf", "places": [[0, "p. 1"], [10, "p. 2"]], "tables": []}]
    library = Library("0123456789second page", side)
    assert library.where("second  page") == "a.pdf, p. 2"
    assert library.where(3) == "a.pdf, p. 1"
    assert library.where("nowhere") == ""
    assert library.pages() == [("p. 1", "0123456789"), ("p. 2", "second page")]


def test_tables_answer_queries() -> None:
    document = only_document(b"Region;Price;Share\nN;1.000,50;10%\nS;2,25;20%\nN;3,00;\n", "Q1 sales.csv")
    library = Library(document["text"], [document])
    assert library.tables() == ["Q1_sales (3 rows; Q1 sales.csv): Region TEXT, Price REAL, Share REAL"]
    rows = library.sql("SELECT Region, SUM(Price) AS total FROM Q1_sales GROUP BY Region ORDER BY Region")
    assert rows == [("N", 1003.5), ("S", 2.25)]
    assert repr(rows).splitlines()[0] == "Region | total"
    assert library.table("Q1_sales")[1] == {"Region": "S", "Price": 2.25, "Share": 0.2}
    with pytest.raises(KeyError, match="tables are: Q1_sales"):
        library.table("missing")


def test_functions_work_on_every_context_of_text() -> None:
    for context in ("some text", ["some text", "x"], {"k": "some text"}, None, {"k": 5}):
        functions = DocumentFunctions()
        functions.bind(context, "")
        functions.grep("some")


def test_index_of_ten_megabytes_takes_seconds() -> None:
    text = "".join(f"Line {number} speaks of ship{number % 977} and cargo{number % 31}.\n" for number in range(250_000))
    start = time.process_time()
    hits = Library(text).search("ship512 cargo7")
    assert "ship512" in hits[0].text
    assert time.process_time() - start < 5
