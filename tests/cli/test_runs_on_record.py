"""The commands on recorded runs, as a person types them: resume, replay, runs, show, export, debug, prune."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import ROOT, cell, environment, rlm, serving

from rlm.testing.server import ScriptedServer
from rlm.testing.wire import ChatCall, ScriptedReply

CODES = (
    "import random\nmark = random.random()\nparts = [llm_query(f'part {i}') for i in range(4)]\nprint(len(parts))",
    "more = llm_query_batch([f'more {i} {mark}' for i in range(3)])\nprint(more[0])",
    "FINAL(parts[0] + ' ' + more[-1].split()[0])",
)
ANSWER = b"<part 0> <more\n"
TEXT = b"some text"


def answer(call: ChatCall) -> str:
    return cell(CODES[min(call.turn, len(CODES)) - 1]) if call.is_root else f"<{call.messages[-1].text}>"


class Stubborn:
    """Answers as the others do, but never the second turn, until ``hangs`` is False."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hangs = True

    def __call__(self, call: ChatCall) -> str | ScriptedReply:
        self.asked.append(call.messages[-1].text)
        if call.is_root and call.turn == 2 and self.hangs:
            return ScriptedReply("", hang=True)
        return answer(call)


def wait_for(script: Stubborn) -> None:
    """Until the second turn is asked for."""
    deadline = time.monotonic() + 30
    while len(script.asked) < 6:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], ScriptedServer]]:
    """A store with one complete run."""
    folder = tmp_path_factory.mktemp("store")
    with serving(answer) as server:
        env = {"RLM_STORE": str(folder / "runs.db")}
        ended = rlm("ask", "-m", "openai:m", "What is \x1b[31mit?", server=server, stdin=TEXT, env=env)
        assert (ended.returncode, ended.stdout) == (0, ANSWER), ended.stderr
        yield env, server


Recorded = tuple[dict[str, str], ScriptedServer]


def test_killed_run_resumes_without_paying_twice(tmp_path: Path) -> None:
    script = Stubborn()
    (tmp_path / "input.txt").write_text("some text")
    with serving(script) as server:
        env = {"RLM_STORE": str(tmp_path / "runs.db")}
        command = [sys.executable, "-m", "rlm", "ask", "-m", "openai:m", "What?", str(tmp_path / "input.txt")]
        process = subprocess.Popen(command, env=environment(server, **env), stderr=subprocess.DEVNULL, cwd=ROOT)
        wait_for(script)
        process.send_signal(signal.SIGKILL)
        assert b"killed" in rlm("runs", env=env).stdout  # also while nobody has waited for it
        process.wait()
        assert rlm("replay", env=env).returncode == 2
        script.hangs = False
        ended = rlm("resume", server=server, env=env)
        assert (ended.returncode, ended.stdout) == (0, ANSWER), ended.stderr
        assert [script.asked.count(f"part {i}") for i in range(4)] == [1] * 4
        paid = len(script.asked)
        again = rlm("resume", server=server, env=env)
        assert (again.stdout, len(script.asked)) == (ANSWER, paid)


def test_ctrl_c_prints_the_resume_command(tmp_path: Path) -> None:
    script = Stubborn()
    with serving(script) as server:
        env = {"RLM_STORE": str(tmp_path / "runs.db")}
        command = [sys.executable, "-m", "rlm", "ask", "-m", "openai:m", "What?"]
        process = subprocess.Popen(
            command,
            env=environment(server, **env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdin is not None
        process.stdin.write(b"some text")
        process.stdin.close()
        process.stdin = None
        wait_for(script)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.3)
        _, told = process.communicate(timeout=30)
        assert process.returncode == 130
        assert b"to continue without paying twice: rlm resume 20" in told
        script.hangs = False
        ended = rlm("resume", server=server, env=env)
        assert (ended.returncode, ended.stdout) == (0, ANSWER), ended.stderr


def test_resume_selects_newest_unfinished_run(tmp_path: Path) -> None:
    env = {"RLM_STORE": str(tmp_path / "runs.db")}
    with serving(answer) as server:
        rlm("ask", "-m", "openai:m", "--max-calls", "4", "First?", server=server, stdin=TEXT, env=env)
        assert rlm("ask", "-m", "openai:m", "Second?", server=server, stdin=TEXT, env=env).returncode == 0
        second, first = (json.loads(line)["run_id"] for line in rlm("runs", "--json", env=env).stdout.splitlines())
        ended = rlm("resume", "--max-calls", "50", server=server, env=env)
        assert first.encode() in ended.stderr
        assert second.encode() not in ended.stderr
        assert rlm("resume", "last", server=server, env=env).stdout == ANSWER  # the newest of all, which is complete


def test_ctrl_c_finishes_resumed_run_with_partial_answer(tmp_path: Path) -> None:
    asked: list[str] = []

    def script(call: ChatCall) -> str | ScriptedReply:
        asked.append(call.messages[-1].text)
        if "Answer now" in asked[-1]:
            return "FINAL(what there is)"
        return cell("print(41 + 1)") if call.turn == 1 else ScriptedReply("", hang=True)

    def wait(calls: int) -> None:
        deadline = time.monotonic() + 30
        while len(asked) < calls:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)

    with serving(script) as server:
        env = environment(server, RLM_STORE=str(tmp_path / "runs.db"))
        command = [sys.executable, "-m", "rlm", "ask", "-m", "openai:m", "What?", str(ROOT / "README.md")]
        with subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, cwd=ROOT) as killed:
            wait(2)
            killed.kill()
        resume = [sys.executable, "-m", "rlm", "resume"]
        with subprocess.Popen(resume, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as resumed:
            wait(3)
            resumed.send_signal(signal.SIGINT)
            answer, told = resumed.communicate(timeout=30)
    assert (resumed.returncode, answer) == (3, b"what there is\n"), told
    assert b"finishing with what the run has" in told
    assert b"to continue without paying twice: rlm resume 20" in told


def test_met_limit_names_its_raising_flag(tmp_path: Path) -> None:
    env = {"RLM_STORE": str(tmp_path / "runs.db")}
    with serving(answer) as server:
        first = rlm("ask", "-m", "openai:m", "--max-calls", "4", "What?", server=server, stdin=TEXT, env=env)
        assert first.returncode in (3, 4), first.stderr
        assert b" --max-calls CALLS\n" in first.stderr
        other = rlm("resume", "--max-tokens-total", "1000000", server=server, env=env)
        assert other.returncode in (3, 4), "another limit was raised, and the one that was met is gone"
        assert len(server.calls) <= 4
        ended = rlm("resume", "--max-calls", "50", "--json", server=server, env=env)
        assert json.loads(ended.stdout)["run_id"].encode() in first.stderr


def test_printed_resume_command_keeps_prices(tmp_path: Path) -> None:
    env = {"RLM_STORE": str(tmp_path / "runs.db")}
    options = ("--price", "unpriced=1,2", "--budget", "0.5", "--max-calls", "3")
    with serving(answer) as server:
        first = rlm("ask", "-m", "openai:unpriced", *options, "What?", server=server, stdin=TEXT, env=env)
        assert first.returncode in (3, 4), first.stderr
        line = first.stderr.decode().splitlines()[-1]
        command = line.partition(": rlm ")[2].replace("CALLS", "50").split()
        assert command[0] == "resume", line
        ended = rlm(*command, "--json", server=server, env=env)
    report = json.loads(ended.stdout)
    assert (ended.returncode, report["status"]) == (0, "complete"), ended.stderr
    assert report["used"]["usd"]["allowed"] == 0.5
    assert 0 < report["cost_usd"] < 0.5


@pytest.mark.parametrize("sources", [["a.txt", "b.txt"], ["folder"], ["folder/c.txt"]])
def test_large_input_is_reread_from_any_folder(tmp_path: Path, sources: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.txt", "b.txt", "folder/c.txt", "folder/d.txt"):
        (tmp_path / name).write_text(name * 200_000)
    env = {"RLM_STORE": str(tmp_path / "runs.db")}
    with serving(lambda _: cell("print(str(context)[:40])\nFINAL(str(len(context)))")) as server:
        asked = rlm("ask", "-m", "openai:m", "What?", *sources, server=server, env=env, cwd=tmp_path)
        assert asked.returncode == 0, asked.stderr
        assert rlm("replay", env=env, cwd=tmp_path.parent).returncode == 0
        resumed = rlm("resume", server=server, env=env, cwd=tmp_path.parent)
        assert (resumed.returncode, resumed.stdout) == (0, asked.stdout)
        (tmp_path / sources[0]).rename(tmp_path / "moved")
        gone = rlm("replay", env=env, cwd=tmp_path)
        assert b"give it again. It was read from " + str(tmp_path).encode() in gone.stderr


def test_large_standard_input_is_given_again(tmp_path: Path) -> None:
    env, large = {"RLM_STORE": str(tmp_path / "runs.db")}, b"x" * 1_100_000
    with serving(lambda _: cell("FINAL(str(len(context)))")) as server:
        rlm("ask", "-m", "openai:m", "What?", server=server, stdin=large, env=env)
    assert b"give it again" in rlm("replay", env=env).stderr
    assert rlm("replay", "last", "-", stdin=large, env=env).returncode == 0


def test_failed_run_replays_to_same_failure(tmp_path: Path) -> None:
    env = {"RLM_STORE": str(tmp_path / "runs.db")}

    def fails(call: ChatCall) -> str | ScriptedReply:
        return cell("print(1)") if call.turn == 1 else ScriptedReply("", status=401)

    with serving(fails) as server:
        failed = rlm("ask", "-m", "openai:m", "What?", server=server, stdin=TEXT, env=env)
        assert failed.returncode not in (0, 3)
    replayed = rlm("replay", env=env)
    assert (replayed.returncode, replayed.stdout) == (0, b"")
    assert b"the same: run 20" in replayed.stderr
    assert b"failed with AuthenticationError" in replayed.stderr


def test_debug_prompt_opens_after_dead_process(tmp_path: Path) -> None:
    env = {"RLM_STORE": str(tmp_path / "runs.db")}
    codes = ("kept = 41", "import os\nos._exit(1)", "FINAL(kept)")
    with serving(lambda call: cell(codes[call.turn - 1])) as server:
        rlm("ask", "-m", "openai:m", "What?", server=server, stdin=TEXT, env=env)
    ended = rlm("debug", "--at", "0/2", stdin=b"kept + 1\n", env=env)
    assert (ended.returncode, ended.stdout) == (0, b"42\n"), ended.stderr


def test_show_and_runs_print_text_only(recorded: Recorded) -> None:
    env, _ = recorded
    listed, shown = rlm("runs", env=env), rlm("show", "--full", env=env)
    assert listed.stdout.count(b"\n") == 1
    assert b"complete" in listed.stdout
    assert b"\x1b" not in listed.stdout + shown.stdout
    for text in (b"cell 1.1: ok", b"mark = random.random()", b"part 3", b"answer: <part 0> <more", b"10 calls"):
        assert text in shown.stdout
    (line,) = rlm("runs", "--json", env=env).stdout.splitlines()
    assert json.loads(line)["models"] == ["openai:m"]


def test_replay_asks_nothing_and_fails_where_it_differs(recorded: Recorded) -> None:
    env, _ = recorded  # and no key, no server
    ended = rlm("replay", env=env)
    assert ended.returncode == 0, ended.stderr
    assert b"the same" in ended.stderr
    unknown = rlm("replay", "no-such-run", env=env)
    assert unknown.returncode == 2
    assert b"no run" in unknown.stderr


def test_export_as_a_page_and_as_lines(recorded: Recorded) -> None:
    env, _ = recorded
    page = rlm("export", env=env).stdout
    assert page.startswith(b"<!doctype html>")
    assert b"Content-Security-Policy" in page
    kinds = [json.loads(line)["event"] for line in rlm("export", "--format", "jsonl", env=env).stdout.splitlines()]
    assert (kinds[0], kinds[-1]) == ("RunStarted", "RunFinished")
    assert kinds.count("CallReplied") == 10


def test_debug_is_a_prompt_in_the_rebuilt_repl(recorded: Recorded) -> None:
    env, _ = recorded
    typed = b"parts[0]\nlen(more)\n1 / 0\nfor i in range(2):\n    print('line', i)\n\nllm_query('new')\n"
    ended = rlm("debug", "--at", "0/2", stdin=typed, env=env)
    assert ended.returncode == 0, ended.stderr
    for text in (b"'<part 0>'", b"3", b"ZeroDivisionError", b"line 1"):
        assert text in ended.stdout + ended.stderr
    assert b"<new>" not in ended.stdout
    assert rlm("debug", "--at", "0/9", env=env).returncode == 2
    assert rlm("debug", "--at", "nonsense", env=env).returncode == 2


def test_without_texts_and_with_the_cache(tmp_path: Path) -> None:
    env = {"RLM_STORE": str(tmp_path / "runs.db")}
    asked: list[str] = []

    def counted(call: ChatCall) -> str:
        asked.append(call.messages[-1].text)
        return cell("FINAL(llm_query('the same'))") if call.is_root else "an answer that nobody may read"

    with serving(counted) as server:
        for _ in range(2):
            ended = rlm("ask", "-m", "openai:m", "--cache", "What?", server=server, stdin=TEXT, env=env)
            assert ended.returncode == 0, ended.stderr
        assert asked.count("the same") == 1
        Path(env["RLM_STORE"]).unlink()
        assert (
            rlm("ask", "-m", "openai:m", "--no-store-texts", "A secret?", server=server, stdin=TEXT, env=env).returncode
            == 0
        )
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"nobody may read" not in kept
    assert b"A secret?" not in kept
    refused = rlm("resume", env=env)
    assert refused.returncode == 2
    assert b"without its texts" in refused.stderr


def test_prune_deletes_the_selected_runs(tmp_path: Path) -> None:
    env = {"RLM_STORE": str(tmp_path / "runs.db")}
    with serving(lambda _: "FINAL(yes)") as server:
        for _ in range(3):
            rlm("ask", "-m", "openai:m", "What?", server=server, stdin=TEXT, env=env)
    assert rlm("runs", "prune", env=env).returncode == 2
    assert b"deleted 2 runs" in rlm("runs", "prune", "--keep", "1", env=env).stderr
    assert rlm("runs", env=env).stdout.count(b"\n") == 1
    assert b"deleted 0 runs" in rlm("runs", "prune", "--older-than", "1", env=env).stderr


def test_no_store_keeps_nothing(tmp_path: Path) -> None:
    env = {"XDG_DATA_HOME": str(tmp_path), "RLM_STORE": ""}
    with serving(lambda _: "FINAL(yes)") as server:
        assert (
            rlm("ask", "-m", "openai:m", "--store", "none", "What?", server=server, stdin=TEXT, env=env).returncode == 0
        )
        assert list(tmp_path.iterdir()) == []
        assert rlm("ask", "-m", "openai:m", "What?", server=server, stdin=TEXT, env=env).returncode == 0
    assert (tmp_path / "rlm" / "runs.db").stat().st_mode & 0o777 == 0o600
