"""The options of ``rlm ask`` that limit a run, and the one that only estimates."""

from __future__ import annotations

import json
from pathlib import Path

from cli_process import cell, rlm, serving

from rlm.testing.wire import ChatCall, ScriptedReply

DEAR = ["--price", "gpt-4o=10,20", "--price", "gpt-4o-mini=10,20"]
COLLECT = "found = []\nfor n in range(200):\n    found.append(llm_query(f'{n} ' + 'word ' * 800))"


def collecting(call: ChatCall) -> str:
    if not call.is_root:
        return "leaf"
    return cell(COLLECT) if call.turn == 1 else "FINAL_VAR(found)"


def test_dollar_budget_holds_with_partial_answer() -> None:
    with serving(collecting) as server:
        ended = rlm("ask", "q", "-", "--budget", "0.50", "--json", *DEAR, server=server, stdin=b"text")
    report = json.loads(ended.stdout)
    assert ended.returncode == 3
    assert (report["status"], report["limit"]) == ("partial", "usd")
    assert len(report["answer"]) > 10
    assert report["cost_usd"] <= 0.5
    assert report["used"]["usd"]["allowed"] == 0.5
    assert report["used"]["usd"]["used"] <= 0.5
    assert report["unfinished"]["refused_calls"] > 0
    assert b"left undone: 1 call refused" in ended.stderr


def test_a_timeout_holds() -> None:
    def answer(call: ChatCall) -> str | ScriptedReply:
        if "Answer now" in call.prompt:
            return "FINAL_VAR(found)"
        return cell("found = 'so far'\nllm_query('x')") if call.is_root else ScriptedReply(hang=True)

    with serving(answer) as server:
        ended = rlm("ask", "q", "-", "--timeout", "4", "--json", server=server, stdin=b"text")
    report = json.loads(ended.stdout)
    assert (report["answer"], report["limit"]) == ("so far", "seconds")
    assert report["elapsed_s"] < 5


def test_an_estimate_spends_nothing(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("Call me Ishmael. " * 50_000)
    with serving("never") as server:
        shown = rlm("ask", "q", str(book), "--estimate", "--model", "gpt-4o", server=server)
        data = rlm("ask", "q", str(book), "--estimate", "--json", "--model", "gpt-4o", *DEAR, server=server)
        assert server.calls == []
    assert (shown.returncode, data.returncode) == (0, 0)
    assert b"850,000 bytes, about 212,500 tokens" in shown.stdout
    estimate = json.loads(data.stdout)
    assert estimate["low"]["calls"] < estimate["high"]["calls"]
    assert estimate["high"]["tokens"] > 212_500
    assert estimate["high"]["usd"] > 2.0


def test_malformed_price_is_refused() -> None:
    for price in ("gpt-4o", "gpt-4o=cheap", "=1,2"):
        ended = rlm("ask", "q", "-", "--price", price, stdin=b"text")
        assert ended.returncode == 2
        assert b"MODEL=IN,OUT" in ended.stderr
