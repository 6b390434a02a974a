"""Processes killed while their tools act, and resumed: no action twice, none lost.

``RLM_TOOL_KILLS=100`` makes the test longer.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from kill_program import KEYS
from tool_kit import lines

from rlm.core.errors import UnknownRunError
from rlm.core.events import ToolEnded, ToolStarted
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.store import SqliteStore

KILLS = int(os.environ.get("RLM_TOOL_KILLS", "8"))
PROGRAM = Path(__file__).with_name("kill_program.py")
ACTIONS = 2 * len(KEYS)


def start(
    what: str, store: Path, log: Path, die_at: int, delay_s: float, victim: str
) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": "/nonexistent"}
    command = [sys.executable, str(PROGRAM), what, str(store), str(log), str(die_at), str(delay_s), victim]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=90)


def has_run(store: Path) -> bool:
    if not store.exists():
        return False
    opened = SqliteStore(store, dump, load)
    try:
        return bool(opened.events(opened.find("last").id))
    except UnknownRunError:
        return False
    finally:
        opened.close()


def check_actions(store: Path, log: Path, answer: dict[str, str]) -> None:
    """Compares the marks of the tools, the outcomes that cells saw, and the record."""
    begun, ended = (
        Counter(line.split()[1] for line in lines(log) if line.startswith(what)) for what in ("begin", "end")
    )
    assert sorted(answer) == sorted(KEYS)
    for key, outcome in answer.items():
        if key.startswith("i"):
            assert (outcome, ended[key] >= 1) == ("done", True), key
            continue
        assert begun[key] <= 1, f"{key} acted {begun[key]} times"
        if outcome != "Interrupted":
            assert (begun[key], outcome) == (1, "ValueError" if key.startswith("f") else "done"), key
            assert ended[key] == (not key.startswith("f")), key
    opened = SqliteStore(store, dump, load)
    events = opened.events(opened.find("last").id)
    opened.close()
    started = Counter(event.args[0] for event in events if isinstance(event, ToolStarted))  # type: ignore[index]
    interrupted = {event.call for event in events if isinstance(event, ToolEnded) and event.interrupted}
    assert all(started[key] >= begun[key] for key in KEYS)
    assert len(interrupted) >= sum(outcome == "Interrupted" for outcome in answer.values())


@pytest.mark.timeout(120 + 20 * KILLS)
def test_killed_processes_never_act_twice(tmp_path: Path) -> None:
    chance = random.Random(17)
    kills = case = 0
    while kills < KILLS:
        case += 1
        store, log = tmp_path / f"{case}.db", tmp_path / f"{case}.log"
        done = None
        for _ in range(12):
            die_at = chance.randint(1, ACTIONS) if kills < KILLS else 0
            victim = "below" if chance.random() < 0.25 else "host"
            what = "resume" if has_run(store) else "begin"
            done = start(what, store, log, die_at, chance.uniform(0, 0.006), victim)
            kills += victim == "below" and die_at > 0
            if done.returncode == 0:
                break
            lost_sandbox = victim == "below" and "SandboxDiedError" in done.stderr
            assert done.returncode == -signal.SIGKILL or lost_sandbox, done.stderr[-3000:]
            kills += victim == "host"
        assert done is not None
        assert done.returncode == 0, "killed in every round"
        check_actions(store, log, json.loads(done.stdout))
