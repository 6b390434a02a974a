"""Commands that signals stop in the middle of many calls, and ``rlm resume`` after them. What was cut off is asked again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from cli_process import ROOT, cell, environment, rlm, serving

from rlm.testing.wire import ChatCall, ScriptedReply

CALLS = 60
WAIT_S = 60
BATCH = f"""
found = llm_query_batch([f'item {{n}}' for n in range({CALLS})], recursive=False)
print(sum(isinstance(x, FailedCall) for x in found))
"""
NESTED = f"found = llm_query_batch([f'child {{n}}' for n in range({CALLS // 20})])"
CHILD = (
    "mine = llm_query_batch([f'{n} of {context}' for n in range(20)], recursive=False)\nFINAL(' '.join(map(str, mine)))"
)
SUM_UP = cell("FINAL(str(len(found)) + ' ' + ' '.join(map(str, found)))")


class Script:
    """A root with ``code``. Leaves beyond the first ``answers``, and last turns, hang while ``hangs`` is set."""

    def __init__(self, code: str, answers: int) -> None:
        self.code = code
        self.answers = answers
        self.hangs = True
        self.answered: Counter[str] = Counter()
        self.waiting = threading.Event()
        self.last_turn = threading.Event()
        self._lock = threading.Lock()

    def __call__(self, call: ChatCall) -> str | ScriptedReply:
        with self._lock:
            if not call.is_root:
                if self.hangs and self.answered.total() >= self.answers:
                    self.waiting.set()
                    return ScriptedReply(hang=True)
                self.answered[call.prompt] += 1
                return f"<{call.prompt}>"
            if "Answer now" in call.prompt:
                self.last_turn.set()
                return ScriptedReply("FINAL_VAR(found)", hang=self.hangs)
            if "What?" not in call.messages[1].text:
                return cell(CHILD)
            return cell(self.code) if call.turn == 1 else SUM_UP


def stop(script: Script, process: subprocess.Popen[bytes], signals: tuple[signal.Signals, ...]) -> None:
    """Sends the signals while calls are in flight. The second one finds the run in its last turn."""
    assert script.waiting.wait(WAIT_S)
    script.last_turn.clear()
    *first, last = signals
    for number in first:
        process.send_signal(number)
        assert script.last_turn.wait(WAIT_S)
    process.send_signal(last)
    script.waiting.clear()


TWICE = (signal.SIGINT, signal.SIGINT)


@pytest.mark.parametrize(
    ("code", "stops"),
    [
        (BATCH, [TWICE]),
        (NESTED, [TWICE]),
        (BATCH, [(signal.SIGINT, signal.SIGKILL), (signal.SIGTERM,)]),
    ],
    ids=["batch", "nested", "several"],
)
def test_resume_asks_calls_that_signals_cut_off(
    tmp_path: Path, code: str, stops: list[tuple[signal.Signals, ...]]
) -> None:
    script, env = Script(code, answers=10), {"RLM_STORE": str(tmp_path / "runs.db")}
    with serving(script) as server:
        command = [sys.executable, "-m", "rlm", "ask", "-m", "openai:m", "--depth", "2", "What?", "-"]
        for signals in stops:
            with subprocess.Popen(
                command, env=environment(server, **env), stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
            ) as process:
                assert process.stdin is not None
                process.stdin.write(b"text")
                process.stdin.close()
                process.stdin = None
                stop(script, process, signals)
                _, told = process.communicate(timeout=WAIT_S)
            expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[signals[-1]]
            assert process.returncode == expected, told
            script.answers += 10
            status = json.loads(rlm("runs", "--json", env=env).stdout)["status"]
            assert status == ("killed" if signals[-1] == signal.SIGKILL else "cancelled")
            command = [sys.executable, "-m", "rlm", "resume"]
        script.hangs = False
        ended = rlm("resume", "--json", server=server, env=env)
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["status"], report["unfinished"]["cancelled_calls"]) == (0, "complete", 0)
    assert report["answer"].count("<") == CALLS
    assert "BudgetExceeded" not in report["answer"]
    # None is lost. An answer that was on its way when the process was stopped is asked for again.
    assert len(script.answered) == CALLS <= script.answered.total() <= CALLS + 10 * len(stops)
    assert json.loads(rlm("runs", "--json", env=env).stdout)["status"] == "complete"
