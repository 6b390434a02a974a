"""Evidence of runs over documents: functions in cells, citations, coverage, resume and replay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import rlm
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLM_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def documents(tmp_path: Path) -> rlm.Documents:
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [f"Line {number} of the log names ship {number * 7919 % 10_007} and its cargo.\n" for number in range(2000)]
    (folder / "log.txt").write_text("".join(lines))
    (folder / "teams.csv").write_text("Team,Cups\nBlues,1\nReds,3\n")
    (folder / "unread.txt").write_text("Nobody reads these words about the whale.\n")
    return rlm.load(folder)


def root_plays(*cells: str, leaf: str = "leaf") -> Callable[[Request], str]:
    def script(request: Request) -> str:
        if request.role != "node":
            return leaf
        turn = sum(message.role == "assistant" for message in request.messages)
        return f"```repl\n{cells[min(turn, len(cells) - 1)]}\n```"

    return script


def test_functions_in_cells_cover_documents(documents: rlm.Documents) -> None:
    code = """
path = [name for name in context if name.endswith('log.txt')][0]
hit = grep('ship 7919 ')[0]
cite(hit)
FINAL([hit.place, search('whale')[0].path, where('Reds,3'), sql('SELECT SUM(Cups) FROM teams')[0][0], len(table('teams'))])"""
    with rlm.RLM(ScriptedModel(root_plays(code)), store=None) as engine:
        result = engine.run("q", documents)
    base = documents[0].path.removesuffix("log.txt")
    assert result.answer == ["line 2", f"{base}unread.txt", f"{base}teams.csv, line 3", 4, 2]
    (citation,) = result.citations
    assert (citation.path, citation.verified) == (documents[0].path, True)


def test_plain_text_has_search_and_free_names() -> None:
    code = "hit = search('whale')[0]; grep = 5; tables = [1]\nFINAL([hit.place, grep, where('Ahab')])"
    with rlm.RLM(ScriptedModel(root_plays(code)), store=None) as engine:
        result = engine.run("q", "The ship.\nA whale and Ahab.\n")
    assert result.answer == ["line 1", 5, "line 2"]
    assert (result.citations, result.coverage) == ((), None)


def test_children_have_functions_with_places(documents: rlm.Documents) -> None:
    def script(request: Request) -> str:
        if request.depth == 0:
            return "```repl\nFINAL(llm_query('q', context=dict(context)))\n```"
        return "```repl\nFINAL(f\"{where('Reds,3')} {sql('SELECT MAX(Cups) FROM teams')[0][0]}\")\n```"

    with rlm.RLM(ScriptedModel(script), store=None, max_depth=2) as engine:
        assert str(engine.run("q", documents).answer).endswith("teams.csv, line 3 3")


def test_invented_quote_is_returned_resumed_and_replayed(documents: rlm.Documents, tmp_path: Path) -> None:
    cells = [
        "FINAL('x', cite=['invented words'])",
        "print(len(pages()))\nFINAL('y', cite=['Blues,1', 'invented words'])",
    ]
    store = tmp_path / "runs.db"
    with rlm.RLM(ScriptedModel(root_plays(*cells)), store=store) as engine:
        result = engine.run("q", documents)
        replayed = engine.replay(result.run_id)
    assert result.answer == replayed.answer == "y"
    assert [citation.verified for citation in result.citations] == [True, False]
    assert replayed.citations == result.citations
    with rlm.open_store(store) as stored:
        recorded = stored.result("last")
    assert recorded.citations == result.citations
    assert recorded.coverage == result.coverage


def test_coverage_equals_slices_that_were_shown(documents: rlm.Documents) -> None:
    code = """
text = context[[name for name in context if name.endswith('log.txt')][0]]
llm_query_batch([f'Read this:\\n{text[start:start + 2500]}' for start in range(0, 50_000, 5000)])
print(text[60_000:61_000])
FINAL(1)"""
    with rlm.RLM(ScriptedModel(root_plays("print(1)", code)), store=None) as engine:
        result = engine.run("q", documents)
    assert result.coverage is not None
    read, *others = result.coverage.documents
    assert read.ranges == tuple((start, start + 2500) for start in range(0, 50_000, 5000))
    assert [item.ranges for item in others] == [(), ()]
    assert result.coverage.summary().endswith("teams.csv, " + documents[2].path)


def test_coverage_of_plain_text_is_an_option() -> None:
    text = "".join(f"sentence number {number} of the text. " for number in range(100))
    with rlm.RLM(ScriptedModel(root_plays("print(context[:500])", "FINAL(1)")), store=None, coverage=True) as engine:
        coverage = engine.run("q", text).coverage
    assert coverage is not None
    assert coverage.documents[0].ranges == ((0, 500),)
