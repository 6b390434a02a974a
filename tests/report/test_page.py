"""The report: text stays text, nothing loads or runs that is not ours, and ten thousand calls are drawn at once."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from browser import browsing, needs_browser

import rlm
from rlm.core.errors import ModelError, RequestRejectedError, RLMError
from rlm.core.events import SCHEMA_VERSION, AnyEvent, CellStarted
from rlm.core.messages import Request
from rlm.report.page import event_lines, page_of_events
from rlm.testing.scripted import ScriptedModel

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> \u2028 {{data}}"
)


class Collector:
    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def emit(self, event: AnyEvent) -> None:
        self.events.append(event)


def record(leaves: int, depth: int = 2) -> list[AnyEvent]:
    def script(request: Request) -> str | ModelError:
        if request.role == "node" and request.depth == 0:
            first = f"x = llm_query_batch([f'leaf {{i}} ' + context for i in range({leaves})], recursive=False)\nprint(x[0])"
            turn = sum(message.role == "assistant" for message in request.messages)
            return f"```repl\n{[first, 'y = llm_query_batch([context] * 2); FINAL(y)'][turn]}\n```"
        if request.role == "node":
            return "```repl\nFINAL(llm_query('below ' + context))\n```"
        if "leaf 3 " in request.messages[-1].text:
            return RequestRejectedError(HOSTILE)
        return "reply " + HOSTILE

    sink = Collector()
    with rlm.RLM(ScriptedModel(script), max_depth=depth, sinks=[sink], store=None) as engine:
        engine.run("Who? " + HOSTILE, HOSTILE)
    return sink.events


def test_data_cannot_leave_its_block() -> None:
    page = page_of_events("r1", record(5))
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert block is not None
    data = json.loads(block[1])
    assert len(data["calls"]) == 2 + 5 + 2 * 2
    assert any(HOSTILE in (call["reply"] or "") for call in data["calls"])
    assert "unsafe" not in page.split("</head>", maxsplit=1)[0].split("Content-Security-Policy")[1].split(">")[0]


def test_lines_are_json_each() -> None:
    events = record(3)
    lines = [json.loads(line) for line in event_lines(events)]
    assert len(lines) == len(events)
    assert (lines[0]["event"], lines[0]["schema"]) == ("RunStarted", SCHEMA_VERSION)
    assert [line["seq"] for line in lines] == [*range(1, len(events) + 1)]


@needs_browser
def test_in_a_browser_everything_is_text_and_found(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page_of_events("r1", record(40)), encoding="utf-8")
    with browsing(tmp_path / "profile") as browser:
        browser.open((tmp_path / "page.html").as_uri())
        assert browser.run("return document.title") == "run r1"
        assert browser.run("return document.querySelectorAll('img, b, #detail script').length") == 0
        assert "3 nodes" in str(browser.run("return document.getElementById('summary').textContent"))
        browser.run("reveal(itemOfCall.get(data.calls.find((call) => call.error)))")
        assert HOSTILE in str(browser.run("return document.getElementById('detail').textContent"))
        assert "RequestRejectedError" in str(browser.run("return document.getElementById('detail').textContent"))
        browser.run(
            "const box = document.getElementById('search'); box.value = 'LEAF 7 '; box.dispatchEvent(new Event('input'))"
        )
        found = (
            "return new Promise((done) => setTimeout(() => done(document.getElementById('found').textContent), 400))"
        )
        assert browser.run(found) == "1 found"
        assert browser.complaints() == []
        # What the policy is for: had something got in, it would not run.
        browser.run(
            "const s = document.createElement('script'); s.textContent = \"document.title='owned'\"; document.body.append(s)"
        )
        assert browser.run("return document.title") == "run r1"
        assert any("Content Security Policy" in line for line in browser.complaints())


@needs_browser
def test_superseded_calls_are_drawn_as_superseded(tmp_path: Path) -> None:
    def script(request: Request) -> str:
        if request.role == "leaf":
            return "leaf"
        turn = sum(message.role == "assistant" for message in request.messages)
        last = (
            "FINAL(partly)" if "limit of iterations has been reached" in request.messages[-1].text else "FINAL_VAR(x)"
        )
        return last if turn else "```repl\nx = llm_query('?')\nprint(x)\n```"

    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db", budget=rlm.Budget(iterations=1)) as engine:
        assert engine.run("q", "context").status == "partial"
    with rlm.RLM(ScriptedModel(script), store=tmp_path / "runs.db") as engine:
        result = engine.resume("last", budget=rlm.Budget(iterations=5))
    (tmp_path / "page.html").write_text(rlm.report_html(result), encoding="utf-8")
    with browsing(tmp_path / "profile") as browser:
        browser.open((tmp_path / "page.html").as_uri())
        rows = browser.run("return items.map((item) => `${item.kind} ${item.label}`.slice(0, 22).trim())")
        assert rows == [
            "node 0 complete · q",
            "turn 1 Question: q",
            "cell 1.1 ok · x = llm_",
            "calls 1 call",
            "call ?",
            "turn 2 superseded · le",
            "turn 2 leaf",
        ]
        browser.run("choose(items.find((item) => item.label.startsWith('superseded')))")
        assert "other work replaced it when the run was resumed" in str(browser.run("return detail.textContent"))
        assert browser.complaints() == []


@needs_browser
def test_keyboard_and_search_work(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page_of_events("r1", record(40)), encoding="utf-8")
    with browsing(tmp_path / "profile") as browser:
        browser.open((tmp_path / "page.html").as_uri())

        def press(*keys: str) -> object:
            for key in keys:
                browser.run(f"tree.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}' }}))")
            return browser.run("return [chosen.kind, chosen.open, shown.length]")

        assert press("ArrowDown", "ArrowDown", "ArrowDown") == ["calls", False, before := 16]
        assert press("ArrowRight") == ["calls", True, before + 40]
        assert press("Enter") == ["calls", False, before]
        assert press("ArrowLeft") == ["cell 1.1", True, before]
        assert press("ArrowLeft", " ") == ["cell 1.1", True, before]

        wait = "return new Promise((done) => setTimeout(() => done(found && found.length), 400))"
        type_in = "const box = byId('search'); box.value = '{}'; box.dispatchEvent(new Event('input')); " + wait
        assert browser.run(type_in.format("leaf 37 ")) == 1
        browser.run("choose(found[0])")
        browser.run(type_in.format(""))
        assert str(browser.run("return document.querySelector('.chosen').textContent")).startswith("call leaf 37")
        assert browser.run(type_in.format("leaf 5 ")) == 1
        browser.run("reveal(itemOfCall.get(data.calls.find((call) => call.prompt.startsWith('leaf 9 '))))")
        assert browser.run("return [found, byId('search').value, shown.indexOf(chosen) > 0]") == [None, "", True]
        # A call of a child node has its own detail, and its texts are found.
        browser.run("choose(itemOfCall.get(data.calls.find((call) => call.node === 1 && call.cell !== null)))")
        assert "tokens in" in str(browser.run("return detail.textContent"))
        assert browser.run(type_in.format("below ")) == 6  # the cells of both children, and their calls, and turns
        assert browser.complaints() == []


@needs_browser
def test_failed_refused_and_open_work_is_drawn(tmp_path: Path) -> None:
    turned = "safe \u202e\u2066 reversed"

    def script(request: Request) -> str:
        if request.role == "leaf":
            return "no json"
        batch = f"print({turned!r})\nx = llm_query_batch(['a', 'b', 'c'], schema={{'type': 'object'}})"
        return f"```repl\n{batch if len(request.messages) < 3 else 'import time; time.sleep(60)'}\n```"

    sink = Collector()
    with rlm.RLM(ScriptedModel(script), sinks=[sink], store=None, budget=rlm.Budget(calls=6)) as engine:
        handle = engine.start("q", "context")
        while not any(isinstance(event, CellStarted) and event.cell.turn == 2 for event in sink.events):
            time.sleep(0.01)
        handle.cancel()
        with pytest.raises(RLMError) as caught:
            handle.result()
    assert caught.value.result is not None
    assert caught.value.result.unfinished.cells == ("0:2.1",)
    (tmp_path / "page.html").write_text(page_of_events("r1", sink.events), encoding="utf-8")
    with browsing(tmp_path / "profile") as browser:
        browser.open((tmp_path / "page.html").as_uri())
        rows = browser.run("return items.map((item) => `${item.kind} ${item.label}`.slice(0, 22).trim())")
        assert isinstance(rows, list)
        assert rows[2:6] == ["cell 1.1 ok · print('s", "refused 1 sub-call", "calls 2 calls, 2 faile", "call a"]
        assert rows[-1] == "cell 2.1 open · import"
        browser.run("choose(items[3])")
        assert "BudgetExceeded" in str(browser.run("return detail.textContent"))
        shown = str(browser.run("choose(items[2]); return detail.textContent"))
        assert "safe ⟨U+202E⟩⟨U+2066⟩ reversed" in shown
        browser.run("choose(items[items.length - 1])")
        assert "has not ended" in str(browser.run("return detail.textContent"))
        assert browser.complaints() == []


@needs_browser
@pytest.mark.slow
def test_ten_thousand_calls_stay_smooth(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(page_of_events("r1", record(10_000)), encoding="utf-8")
    with browsing(tmp_path / "profile") as browser:
        browser.open((tmp_path / "page.html").as_uri())
        assert browser.run("return document.querySelectorAll('.row').length < 200 && data.calls.length > 10000")
        browser.run("items.forEach((item) => { item.open = true; }); listItems()")
        frame_ms = browser.run(
            "const began = performance.now();"
            "for (let i = 0; i < 30; i++) { tree.scrollTop = i * 3000; drawRows(); lanes.scrollTop = i * 50; drawLanes(); }"
            "return (performance.now() - began) / 30"
        )
        assert isinstance(frame_ms, float | int)
        assert frame_ms < 150  # 18 ms on an idle machine without a graphics card
        browser.screenshot(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000


def test_result_and_record_make_one_page(tmp_path: Path) -> None:
    with rlm.RLM(ScriptedModel(lambda _: "FINAL(yes)"), store=tmp_path / "runs.db") as engine:
        result = engine.run("q", "context")
        pages = (rlm.report_html(result), engine.report_html(result.run_id))
        # When a call left is not kept where it left at once.
        assert len({re.sub(r'"sent":[^,]*', "", page) for page in pages}) == 1
