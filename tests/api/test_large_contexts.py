"""Large contexts: they neither hold up other runs nor fill the host's memory."""

from __future__ import annotations

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlm import RLM, Result
from rlm.core.cells import PlainValue, Quote
from rlm.core.corpus import Corpus
from rlm.core.events import AnyEvent, RunStarted
from rlm.core.sizes import exceeds
from rlm.documents.large_text import LargeText
from rlm.documents.values import Document, Documents
from rlm.engine.driver.evidence import corpus_of
from rlm.runtime.loop import BACKGROUND
from rlm.sandbox.plain_data import dump_in_steps
from rlm.sandbox.worker.wire.values import dump
from rlm.testing import LoopWatchdog, ScriptedModel

DOCUMENTS = int(os.environ.get("RLM_TEST_DOCUMENTS", "200000"))  # 2,000,000 is the size of the issue
FILES = int(os.environ.get("RLM_TEST_FILES", "20000"))  # 100,000 is the size of the issue
MAX_STALL_CPU_S = 0.12  # of all threads; 0.25 and more with one pass over 200,000 items on the loop


def engine(cell: str, *sinks: object) -> RLM:
    replies = [f"```repl\n{cell}\n```", "FINAL(done)"]
    return RLM(ScriptedModel(replies), store="memory", sinks=sinks)  # type: ignore[arg-type]


def run_watched(answering: RLM, context: PlainValue) -> tuple[Result, LoopWatchdog]:
    async def watched() -> tuple[Result, LoopWatchdog]:
        with LoopWatchdog() as watch:
            return await answering.execute("a question", context), watch

    gc.collect()
    gc.freeze()  # a collection of the test session's own objects takes longer than what is measured
    try:
        return BACKGROUND.wait(watched())
    finally:
        gc.unfreeze()


LARGE: dict[str, Callable[[], Any]] = {
    "list": lambda: [f"document {number} " + "words " * 15 for number in range(DOCUMENTS)],
    "list of two forms": lambda: [f"document {number} " + "wörds € "[: number % 9] for number in range(DOCUMENTS)],
    "dict": lambda: {f"src/{number}.py": f"line {number}\n" * 200 for number in range(FILES)},
    "records": lambda: [{"id": number, "text": f"document {number} " * 5} for number in range(FILES)],
}


@pytest.mark.parametrize("kind", LARGE)
def test_many_items_do_not_hold_up_the_loop(kind: str) -> None:
    context = LARGE[kind]()
    keys = list(context) if isinstance(context, dict) else range(len(context))
    result, watch = run_watched(engine(f"FINAL([len(context), context[{keys[1]!r}], context[{keys[-1]!r}]])"), context)
    assert result.answer == [len(context), context[keys[1]], context[keys[-1]]]
    assert watch.longest_cpu_s < MAX_STALL_CPU_S


def test_many_documents_do_not_hold_up_the_loop() -> None:
    documents = Documents([Document(f"src/{number}.py", "text", f"line {number}\n" * 50) for number in range(FILES)])
    result, watch = run_watched(engine("FINAL([len(context), context['src/7.py'][:7]])"), documents)
    assert result.answer == [FILES, "line 7\n"]
    assert watch.longest_cpu_s < MAX_STALL_CPU_S


@pytest.mark.parametrize("named", [lambda path: path, lambda path: [path], LargeText])
def test_large_file_is_mapped(tmp_path: Path, named: Callable[[Path], Any]) -> None:
    file = tmp_path / "large.txt"
    file.write_bytes(b"a line of plain text\n" * 3_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = engine("FINAL([len(context), context[-5:]])").run("a question", named(file))
    assert result.answer == [63_000_000, "text\n"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_quote_of_large_file_is_found_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "large.txt"
    file.write_bytes(b"a line of plain text\n" * 2_000_000 + b"The captain is Ahab.\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answering = engine("FINAL('Ahab', cite=['The captain  is Ahab', 'a line of plain text'])")
    with file.open("rb") as opened:
        first, second = answering.run("a question", opened).citations
    assert (first.place, first.start, first.verified, second.start) == ("line 2000001", 42_000_000, True, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_pieces_of_a_quoted_text_overlap() -> None:
    text = "one two\n" * 10_000 + "the quoted words\n" + "three four\n" * 10_000
    corpus = Corpus("", read=lambda: iter([text[:80_006], text[80_006:]]))
    (found,) = corpus.cite([Quote("quoted words")])
    assert (found.start, found.place, found.verified) == (80_004, "line 10001", True)


def test_huge_file_is_described_as_such(tmp_path: Path) -> None:
    file = tmp_path / "huge.txt"
    with file.open("wb") as out:
        out.truncate(5 << 30)
    with file.open("rb") as opened:
        assert "5,368,709,120 bytes; too large for a copy" in corpus_of(opened, "").description
    events: list[AnyEvent] = []
    engine("FINAL(1)", events.append).run("a question", [file])
    assert any(isinstance(event, RunStarted) and "too large for a copy" in event.context for event in events)


@pytest.mark.parametrize(
    ("value", "limit", "larger"),
    [
        ("abc", 8, True),
        ("abc", 9, False),
        (["abc"] * 3, 32, True),
        (["abc"] * 3, 33, False),
        ({"a": ["b" * 100]}, 100, True),
        ([[[]]] * 5, 1000, False),
        (None, 10, False),
        (range(3), 2, True),
    ],
)
def test_size_check_is_exact_at_its_limit(value: PlainValue, limit: int, larger: bool) -> None:
    assert exceeds(value, limit) is larger


def test_size_check_stops_at_its_limit() -> None:
    assert exceeds([{"n": number} for number in range(300_000)], 1_000)


def test_data_in_steps_is_the_same_data() -> None:
    value = {
        "rows": [[number, "é" * number, None] for number in range(700)],
        "text": 'a"b' * 100_000,
        "set": {1},
        "$": 2,
    }
    for item in (value, value["rows"], {"text": value["text"]}, [], {}, (1, 2), "text", b"\xff"):
        kind, pieces = dump_in_steps(item)
        assert (kind, b"".join(pieces)) == dump(item, strict=True)
