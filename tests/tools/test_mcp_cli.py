"""``--mcp`` on the command line, and tools in sessions."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from tool_kit import cell

import rlm
from rlm.cli.main import main
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel
from rlm.testing.server import ChatCall, ScriptedServer
from rlm.testing.wire import ScriptedReply

pytest.importorskip("mcp")
SERVER = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("odd_server.py")), "fine"])


def test_ask_and_resume_with_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [True]

    def answer(call: ChatCall) -> str | ScriptedReply:
        if call.turn == 1:
            return cell("print(act())")
        return ScriptedReply("no key", status=401) if broken[0] else cell("FINAL(act())")

    with ScriptedServer.in_thread(answer) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "not-a-key")
        store = ["--store", str(tmp_path / "runs.db"), "--quiet"]
        (tmp_path / "a.txt").write_text("some text")
        ask = ["ask", "what?", str(tmp_path / "a.txt"), "--model", "gpt-4o", "--mcp", SERVER, *store]
        assert main(ask) != 0
        broken[0] = False
        capsys.readouterr()
        assert main(["resume", "last", *store]) != 0
        assert "has the tools act, which were not given" in capsys.readouterr().err
        assert main(["resume", "last", "--mcp", SERVER, *store]) == 0
        assert capsys.readouterr().out == "acted\n"
        assert main(["resume", "last", *store]) == 0  # it is complete, so nothing is called
        assert capsys.readouterr().out == "acted\n"
        assert main(["replay", "last", *store[:2]]) == 0


def test_session_has_tools_in_every_question(tmp_path: Path) -> None:
    calls: list[int] = []

    def act(number: int) -> int:
        """Acts."""
        calls.append(number)
        return number

    def reply(request: Request) -> str:
        asked = sum(message.role == "user" and "Question:" in message.text for message in request.messages)
        turn = sum(message.role == "assistant" for message in request.messages)
        return cell(f"seen = act({turn})\nFINAL(seen)") if asked else "FINAL(0)"

    store = tmp_path / "runs.db"
    model: Any = ScriptedModel(reply)
    with rlm.RLM(model, tools=[act], store=store, sandbox="unconfined") as engine, engine.session("context") as session:
        answers = [session.ask("one").answer, session.ask("two").answer]
    assert answers == calls
    assert len(calls) == 2
