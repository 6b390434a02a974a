"""A process that forks after its first run: parent and child both go on, each with an engine of its own."""

from __future__ import annotations

import subprocess
import sys

from rlm.testing.server import ChatCall, ScriptedServer

PROGRAM = """
import os, sys
import rlm

engine = rlm.RLM("gpt-4o", base_url=sys.argv[1], api_key="x", sub_model="gpt-4o-mini")
print(engine.run("q", "before").answer, flush=True)
child = os.fork()
print(engine.run("q", "in the child" if child == 0 else "in the parent").answer, flush=True)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


def answer(call: ChatCall) -> str:
    return "```repl\nFINAL(llm_query(context))\n```" if call.is_root else call.prompt


def test_parent_and_child_both_answer() -> None:
    with ScriptedServer.in_thread(answer) as server:
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, server.base_url]
        shown = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert sorted(shown.stdout.split("\n")) == ["", "before", "in the child", "in the parent"]
