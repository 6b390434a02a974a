"""Runs killed at random moments and resumed: ``kill -9`` of the host, of REPLs and of the zygote.

``RLM_TORTURE_KILLS=200`` makes the test longer. Seeds are fixed, moments are not.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from folds_kit import check_folds
from torture_program import answer

from rlm.core.errors import UnknownRunError
from rlm.core.events import AnyEvent, CallReplied, CallStarted
from rlm.core.ids import CallId
from rlm.core.messages import Message
from rlm.sandbox.worker.wire.values import dump, load
from rlm.store.store import SqliteStore
from rlm.testing.server import ScriptedServer
from rlm.testing.wire import ChatCall

KILLS = int(os.environ.get("RLM_TORTURE_KILLS", "16"))
PROGRAM = Path(__file__).with_name("torture_program.py")
WAIT_S = 90
CLOCK = re.compile(r"\b\d{10}\.\d{3}\b")


def prompt_of(messages: Sequence[Message]) -> str:
    """The messages without the time of day, which a cell that restarts without any answer sees as it is then."""
    return CLOCK.sub("", json.dumps([[message.role, message.text] for message in messages]))


class Watched:
    """The server's script, and the prompts since the last ``take``."""

    def __init__(self) -> None:
        self._asked: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, call: ChatCall) -> object:
        with self._lock:
            self._asked.append(prompt_of(call.messages))
        return answer(call)

    def take(self) -> list[str]:
        with self._lock:
            asked, self._asked = self._asked, []
        return asked


def start(what: str, store: Path, url: str) -> subprocess.Popen[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "HOME": "/nonexistent"}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), what, str(store), url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    )


def read_events(store: Path) -> list[AnyEvent]:
    if not store.exists():
        return []
    opened = SqliteStore(store, dump, load)
    try:
        return opened.events(opened.find("last").id)
    except UnknownRunError:
        return []
    finally:
        opened.close()


def replied(events: list[AnyEvent]) -> dict[CallId, str]:
    """The prompt of every answered call."""
    asked = {event.call: prompt_of(event.request.messages) for event in events if isinstance(event, CallStarted)}
    return {event.call: asked[event.call] for event in events if isinstance(event, CallReplied)}


def descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
    found, level = list[int](), [pid]
    while level:
        level = [child for child, parent in parents.items() if parent in level]
        found += level
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, int, float]:
    """The answer of an undisturbed run (without its random parts), its calls, and its duration."""
    store = tmp_path_factory.mktemp("calm") / "runs.db"
    with ScriptedServer.in_thread(Watched(), latency_s=0.02) as server:  # type: ignore[arg-type]
        began = time.monotonic()
        process = start("begin", store, server.base_url)
        out, err = process.communicate(timeout=WAIT_S)
        took = time.monotonic() - began
    assert process.returncode == 0, err
    return shape(json.loads(out)), len(replied(read_events(store))), took


def shape(found: dict[str, object]) -> object:
    """An answer without the parts that depend on the run's seed and on the order of its threads."""
    return [found["children"], found["failed"], sorted(map(str, found["done"]))]  # type: ignore[call-overload]


@pytest.mark.timeout(60 + 12 * KILLS)
def test_run_killed_at_random_moments_resumes(tmp_path: Path, undisturbed: tuple[object, int, float]) -> None:
    expected, calls, took = undisturbed
    chance = random.Random(6)
    kills = case = 0
    while kills < KILLS:
        case += 1
        store = tmp_path / f"{case}.db"
        script = Watched()
        answered: dict[CallId, str] = {}
        errors: list[str] = []
        events, out = list[AnyEvent](), ""
        rounds: list[tuple[Counter[str], Counter[str]]] = []
        with ScriptedServer.in_thread(script, latency_s=0.02) as server:  # type: ignore[arg-type]
            for round_ in range(5):
                process = start("resume" if answered or read_events(store) else "begin", store, server.base_url)
                last = round_ == 4
                if not last:
                    kills += disturb(process, chance, took)
                out, err = process.communicate(timeout=WAIT_S)
                errors.append(err)
                rounds.append((Counter(answered.values()), Counter(script.take())))
                events = read_events(store)
                answered = replied(events)
                if process.returncode == 0:
                    break
                # A zygote that is killed while it starts is an error of the sandbox: the run fails, and is resumed.
                lost_sandbox = "SandboxUnavailableError" in err or "SandboxDiedError" in err
                assert process.returncode == -signal.SIGKILL or lost_sandbox, f"case {case}, {round_}: {err[-3000:]}"
        whole = Counter(answered.values())
        print(f"case {case}:", "".join(errors))
        for before, asked in rounds:  # a call that was answered when a round began is not asked again in it
            # A REPL or a zygote that is killed takes its calls in flight with it: those are asked twice in one round.
            again = [
                prompt
                for prompt in asked
                if asked[prompt] > 2 * (whole[prompt] - before[prompt]) and '"bad ' not in prompt
            ]
            assert not again, f"case {case}: paid twice: {again[0][-300:]}"
        assert shape(json.loads(out)) == expected
        assert len(answered) == calls
        assert Counter(type(event).__name__ for event in events)["CallReplied"] == calls
        check_folds(events)


def disturb(process: subprocess.Popen[str], chance: random.Random, took: float) -> int:
    """Kills REPLs or the zygote in some cases, then the host. Returns the number of kills before the run ended."""
    hits = 0
    for what in [*(["below"] if chance.random() < 0.4 else []), "host"]:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.15, 0.9) * took)
        if process.poll() is not None:
            return hits
        pids = [process.pid] if what == "host" else descendants(process.pid)
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(pids), signal.SIGKILL)
                hits += 1
    return hits
