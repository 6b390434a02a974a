"""``rlm ask`` over documents: footnotes, coverage, and the same in JSON and in the report."""

from __future__ import annotations

import json
from pathlib import Path

from cli_process import cell, rlm, root_writes, serving

MODEL = ["--model", "gpt-4o", "--sub-model", "gpt-4o-mini"]
EVIL = "\x1b]0;owned\x07fee"


def fill(folder: Path) -> None:
    (folder / "docs").mkdir()
    (folder / "docs" / "a.txt").write_text("The harbour fee is due in March, says the master of the port.\n" * 3)
    (folder / "docs" / "b.html").write_text("<p>Unread words about whales and other large animals of the sea.</p>")


ANSWER = cell(
    "print(grep('harbour')); FINAL('March', cite=['fee is due in March', 'an invented " + "\\x1b]0;x\\x07" + "quote'])"
)


def test_footnotes_and_coverage_follow_answer(tmp_path: Path) -> None:
    fill(tmp_path)
    read = cell("print(context['docs/a.txt'])")
    with serving(root_writes(read, ANSWER)) as server:
        ended = rlm("ask", "When?", "docs", *MODEL, server=server, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, b"March\n")
    shown = ended.stderr.decode()
    assert 'rlm: [1] docs/a.txt, line 1: "fee is due in March"' in shown
    assert '[2] NOT FOUND in the sources: "an invented quote"' in shown
    assert "of 2 files; not opened: docs/b.html" in shown
    assert "\x1b" not in shown
    system = server.calls[0].messages[0].text
    assert "search(words" in system
    assert "cite=" in system
    assert "tables()" not in system
    assert "2 documents" in server.calls[0].messages[1].text
    assert "an invented" in server.calls[2].messages[-1].text


def test_json_and_report_have_evidence(tmp_path: Path) -> None:
    fill(tmp_path)
    store = ["--store", str(tmp_path / "runs.db")]
    with serving(root_writes(ANSWER)) as server:
        ended = rlm("ask", "When?", "docs", "--json", "-q", *store, *MODEL, server=server, cwd=tmp_path)
    report = json.loads(ended.stdout)
    assert [item["verified"] for item in report["citations"]] == [True, False]
    assert report["citations"][0]["path"] == "docs/a.txt"
    assert [item["path"] for item in report["documents"]["documents"]] == ["docs/a.txt", "docs/b.html"]
    assert report["coverage"]["documents"][1]["read_chars"] == 0
    page = rlm("export", *store).stdout.decode()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert data["citations"][0]["quote"] == "fee is due in March"
    assert data["coverage"]["documents"][0]["path"] == "docs/a.txt"


def test_no_cite_asks_for_no_quotes(tmp_path: Path) -> None:
    fill(tmp_path)
    with serving(root_writes("FINAL(42)")) as server:
        assert rlm("ask", "q", "docs", "--no-cite", *MODEL, server=server, cwd=tmp_path).returncode == 0
    assert "cite=" not in server.calls[0].messages[0].text
