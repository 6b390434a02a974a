"""Tool calls in everything that shows a run, with hostile arguments and results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tool_kit import engine_of

import rlm
from rlm.cli.main import main
from rlm.core.redaction import SECRETS
from rlm.events import AnyEvent
from rlm.views.formatting import describe_calls
from rlm.views.plain import Narrator
from rlm.views.progress import Progress

HOSTILE = "\x1b[31m</script><b>\u202e"
SECRET = "sk-hidden-0123456789abcdef"


def echo(text: str, size: int = 1) -> str:
    """Returns the text."""
    return text * size


def fail(text: str) -> None:
    """Fails."""
    raise ValueError(text)


CODE = (
    f"echo({HOSTILE!r})\necho('x', 100_000)\necho({SECRET!r})\n"
    f"try: fail({HOSTILE!r})\nexcept ToolError: pass\nfor n in range(20): echo(str(n))"
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, rlm.Result, list[AnyEvent]]:
    SECRETS.add([SECRET])
    store = tmp_path_factory.mktemp("views") / "runs.db"
    events: list[AnyEvent] = []
    with engine_of(CODE, tools=[echo, fail], store=store, sinks=[events.append]) as engine:
        return store, engine.run("question", "context"), events


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_show_prints_tool_calls(
    recorded: tuple[Path, rlm.Result, list[AnyEvent]], capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(["show", "last", "--store", str(recorded[0])], capsys)
    assert "24 tool calls" in text
    assert "tool 0/1.1.1: echo('\\x1b[31m</script><b>\\u202e')" in text
    assert "ToolError.ValueError: fail: ValueError:" in text
    assert "more tool calls (--full)" in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert SECRET not in text
    assert max(map(len, text.splitlines())) < 500
    assert len(shown(["show", "last", "--full", "--store", str(recorded[0])], capsys)) > len(text)


def test_report_has_tool_calls(
    recorded: tuple[Path, rlm.Result, list[AnyEvent]], capsys: pytest.CaptureFixture[str]
) -> None:
    page = shown(["export", "last", "--store", str(recorded[0])], capsys)
    assert "echo('19')" in page
    assert "</script><b>" not in page
    assert SECRET not in page


def test_export_has_whole_tool_events(
    recorded: tuple[Path, rlm.Result, list[AnyEvent]], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        json.loads(line)
        for line in shown(["export", "last", "--format", "jsonl", "--store", str(recorded[0])], capsys).splitlines()
    ]
    started = [line for line in lines if line["event"] == "ToolStarted"]
    ended = [line for line in lines if line["event"] == "ToolEnded"]
    assert (len(started), len(ended)) == (24, 24)
    assert (started[0]["tool"], started[0]["args"]) == ("echo", [HOSTILE])
    assert len(ended[1]["value"]) == 100_000
    assert SECRET not in json.dumps(lines)


def test_json_of_result_has_cut_tool_calls(recorded: tuple[Path, rlm.Result, list[AnyEvent]]) -> None:
    report = recorded[1].to_dict()
    calls = report["tool_calls"]
    assert isinstance(calls, list)
    assert report["usage"]["tool_calls"] == len(calls) == 24  # type: ignore[index, call-overload]
    assert len(json.dumps(calls[1])) < 800
    assert calls[3]["error"].startswith("ToolError.ValueError")
    assert SECRET not in json.dumps(report)


def test_store_never_has_the_secret(recorded: tuple[Path, rlm.Result, list[AnyEvent]]) -> None:
    assert not [path for path in recorded[0].parent.iterdir() if SECRET.encode() in path.read_bytes()]


def test_live_views_count_tool_calls(recorded: tuple[Path, rlm.Result, list[AnyEvent]]) -> None:
    progress, narrator = Progress(), Narrator()
    lines: list[str] = []
    for event in recorded[2]:
        progress.add(event)
        lines += narrator.narrate(event)
    assert "24 tool calls: 23 done, 1 failed" in describe_calls(progress, 1.0)
    assert any("tool call 0/1.1.4 failed: fail: ValueError:" in line for line in lines)
    assert any("24 tool calls: 23 done, 1 failed" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_result_card_and_repr_survive_tool_calls(recorded: tuple[Path, rlm.Result, list[AnyEvent]]) -> None:
    assert "\x1b" not in repr(recorded[1])
    assert "</script><b>" not in recorded[1]._repr_html_()
