"""The document view of the report: marks of what was read and cited, jumps between citations, places and calls."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import browsing, needs_browser

import rlm
from rlm.core.corpus import Corpus
from rlm.core.evidence import Citation, Coverage, DocumentCoverage
from rlm.core.messages import Request
from rlm.documents.values import Document, Documents, Place
from rlm.report import documents as view
from rlm.report.documents import describe_documents
from rlm.testing.scripted import ScriptedModel

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">\u202e"
FEE = "The harbour fee is due in March, at the latest on the 14th."


def documents() -> Documents:
    pages = [
        "".join(f"Clause {number}.{clause} of the contract. " for clause in range(40)) + "\n"
        for number in range(1, 200)
    ]
    pages[99] = f"Page 100. {HOSTILE} {FEE}\n"
    starts = [0]
    for page in pages:
        starts.append(starts[-1] + len(page))
    places = tuple(Place(start, f"p. {number}") for number, start in enumerate(starts[:-1], 1))
    return Documents(
        [
            Document("deals/a.pdf", "pdf", "".join(pages), places),
            Document("deals/b.txt", "text", "Nobody read this note."),
        ]
    )


def run(read: Documents) -> rlm.Result:
    def script(request: Request) -> str:
        if request.role == "leaf":
            return "NONE"
        if any(message.role == "assistant" for message in request.messages):
            return f'```repl\nFINAL("in March", cite=["{FEE}"])\n```'
        at = read[0].text.index(FEE)
        return (
            f"```repl\nprint(len(llm_query_batch(['Dates? ' + context['deals/a.pdf'][{at - 3000}:{at + 3000}]])))\n```"
        )

    with rlm.RLM(ScriptedModel(script), store=None, max_depth=1) as engine:
        return engine.run("When is the fee due?", read)


def described(read: Documents, citations: list[Citation], ranges: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    coverage = Coverage((DocumentCoverage(read[0].path, len(read[0].text), ranges),))
    return plain(describe_documents(Corpus(read.context, read.side_table()), citations, coverage))


def plain(found: list[dict[str, object]]) -> list[dict[str, Any]]:
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def test_segments_rebuild_the_text_with_its_marks() -> None:
    read = documents()
    text = read[0].text
    at = text.index(FEE)
    cited = Citation("deals/a.pdf", "p. 100", FEE, at, at + len(FEE), verified=True)
    first, second = described(read, [cited], ((at - 500, at + 20), (at + 5_000, at + 6_000)))
    position = 0
    marks: dict[str, list[tuple[int, int]]] = {"read": [], "cited": []}
    for segment in first["segments"]:
        if len(segment) == 1:
            position += segment[0] if isinstance(segment[0], int) else 0
            continue
        words, is_read, numbers = segment
        assert text[position : position + len(words)] == words
        end = position + len(words)
        marks["read"] += [(position, end)] if is_read else []
        marks["cited"] += [(position, end)] if numbers else []
        position = end
    assert position == len(text) == first["chars"]
    assert sum(end - start for start, end in marks["read"]) == 520 + 1_000
    assert marks["cited"] == [(at, at + 20), (at + 20, at + len(FEE))]
    assert ["p. 100"] in first["segments"]
    assert second["segments"] == [["line 1"], ["Nobody read this note.", False, []]]


def test_pages_of_large_documents_are_bounded() -> None:
    many = Documents([Document(f"{number}.txt", "text", "word " * 200_000) for number in range(40)])
    coverage = Coverage(tuple(DocumentCoverage(item.path, len(item.text), ((0, 900_000),)) for item in many))
    citations = [Citation("39.txt", "line 1", "word", at, at + 4, verified=True) for at in range(990_000, 999_000, 50)]
    found = plain(describe_documents(Corpus(many.context, many.side_table()), citations, coverage))
    shown = [[segment for segment in item["segments"] if len(segment) == 3] for item in found]
    kept = [sum(len(words) for words, _, _ in segments) for segments in shown]
    assert max(kept) <= view.MAX_DOCUMENT_CHARS
    assert sum(kept) <= view.MAX_PAGE_CHARS
    assert found[0]["path"] == "39.txt"
    assert {number for segments in shown for *_, numbers in segments for number in numbers} == set(
        range(len(citations))
    )


@needs_browser
def test_citations_lead_to_places_and_calls(tmp_path: Path) -> None:
    result = run(documents())
    assert [citation.place for citation in result.citations] == ["p. 100"]
    page = tmp_path / "page.html"
    page.write_text(rlm.report_html(result), encoding="utf-8")
    with browsing(tmp_path / "profile") as browser:
        browser.open(page.as_uri())
        labels = browser.run("return items.filter((item) => item.kind === 'document').map((item) => item.label)")
        assert labels == ["a.pdf · read 2 % · 1 citation", "b.txt · read 0 %"]
        browser.run("document.querySelector('.citations button.quote').click()")
        assert browser.run("return chosen.kind") == "document"
        assert browser.run("return document.querySelector('mark.aimed').textContent") == FEE
        place = "const r = document.querySelector('mark.aimed').getBoundingClientRect()"
        inside = f"{place}; return r.top > 0 && r.bottom < innerHeight"
        assert browser.run(inside) is True
        view_text = str(browser.run("return document.querySelector('.document').textContent"))
        assert HOSTILE.replace("\u202e", "⟨U+202E⟩") in view_text
        assert re.search(r"[\d,]+ characters are not shown on this page", view_text)
        assert browser.run("return document.querySelectorAll('#detail img, #detail script').length") == 0
        browser.run(
            "const p = document.querySelector('.document .read'), r = p.getClientRects()[0];"
            "p.dispatchEvent(new MouseEvent('click', {bubbles: true, clientX: r.left + 40, clientY: r.top + 5}))"
        )
        assert "read by 1 call:" in str(browser.run("return document.querySelector('p.readers').textContent"))
        browser.run("reveal(items[0]); document.querySelector('.citations button.reader').click()")
        assert browser.run("return chosen.thing.role") == "leaf"
        assert browser.run("return document.querySelector('mark.aimed').textContent") == FEE
        assert browser.complaints() == []
        assert browser.run("return document.title") != "owned"


@pytest.mark.parametrize("lines", [20, 60_000])  # the larger input is not stored, and read again from its files
def test_exported_runs_show_their_documents(tmp_path: Path, lines: int) -> None:
    folder = tmp_path / "deals"
    folder.mkdir()
    (folder / "a.txt").write_text("Filler of a long note.\n" * lines + FEE + "\n")
    (folder / "b.txt").write_text("A short note.\n")

    def script(_: Request) -> str:
        return f'```repl\nprint(list(context.values())[0][-300:]); FINAL("in March", cite=["{FEE}"])\n```'

    store = tmp_path / "runs.db"
    with rlm.RLM(ScriptedModel(script), store=store) as engine:
        engine.run("When?", rlm.load(folder))
    command = [sys.executable, "-m", "rlm", "export", "--store", str(store)]
    page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert segments_of(page, str(folder / "a.txt"))[-2][0] == FEE
    (folder / "a.txt").write_text("Another text.\n")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert bool(segments_of(done.stdout, str(folder / "a.txt"))) == (lines == 20)
    assert ("the page has no documents" in done.stderr) == (lines != 20)


def segments_of(page: str, path: str) -> list[list[Any]]:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    found = [item["segments"] for item in json.loads(block[1])["documents"] if item["path"] == path]
    return found[0] if found else []
