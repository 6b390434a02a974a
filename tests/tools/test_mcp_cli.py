"""``--mcp`` on the command line, and tools in sessions."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tool_kit import cell

import rlm
from rlm.core.messages import Request
from rlm.testing.scripted import ScriptedModel
from rlm.testing.server import ChatCall, ScriptedServer
from rlm.testing.wire import ScriptedReply

pytest.importorskip("mcp")
SERVER = shlex.join([sys.executable, "-I", "-S", str(Path(__file__).with_name("odd_server.py")), "fine"])


def test_ask_and_resume_with_a_server(tmp_path: Path) -> None:
    broken = [True]

    def answer(call: ChatCall) -> str | ScriptedReply:
        if call.turn == 1:
            return cell("print(act())")
        return ScriptedReply("no key", status=401) if broken[0] else cell("FINAL(act())")

    (tmp_path / "a.txt").write_text("some text")
    with ScriptedServer.in_thread(answer) as server:

        def rlm_command(*arguments: str) -> subprocess.CompletedProcess[str]:
            env = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "not-a-key"}
            command = [sys.executable, "-m", "rlm", *arguments, "--store", str(tmp_path / "runs.db")]
            return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)

        asked = rlm_command("ask", "what?", str(tmp_path / "a.txt"), "--model", "gpt-4o", "--mcp", SERVER)
        assert asked.returncode != 0
        broken[0] = False
        refused = rlm_command("resume", "last")
        assert (refused.returncode != 0, "has the tools act, which were not given" in refused.stderr) == (True, True)
        assert rlm_command("resume", "last", "--mcp", SERVER).stdout == "acted\n"
        assert rlm_command("resume", "last").stdout == "acted\n"  # it is complete, so nothing is called
        assert rlm_command("replay", "last").returncode == 0


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
