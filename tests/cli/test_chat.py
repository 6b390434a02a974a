"""``rlm chat`` and ``rlm ask --continue`` as processes, from a pipe and on a terminal."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest
from cli_process import cell, on_terminal, rlm, serving

from rlm.testing.wire import ChatCall


def counting(call: ChatCall) -> str:
    """The root counts its questions in a variable; the first one also asks a leaf."""
    if not call.is_root:
        return "leaf"
    if "slow" in call.messages[-1].text:
        return cell("import time\ntime.sleep(60)")
    return cell("n = globals().get('n', 0) + 1\nprint('counted', n)\nFINAL(f'{n} over {len(context or str())}')")


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "a.txt").write_text("abc")
    return {"XDG_DATA_HOME": str(tmp_path / "data"), "RLM_STORE": str(tmp_path / "runs.db")}


def test_lines_of_a_pipe_are_questions(home: dict[str, str], tmp_path: Path) -> None:
    with serving(counting) as server:
        asked = rlm(
            "chat",
            "a.txt",
            server=server,
            stdin=b"one\n\ntwo\n/vars\n/cost\n/files\n/show\n/save kept.md\n/nonsense\n/quit\nthree\n",
            env=home,
            cwd=tmp_path,
        )
    shown = asked.stdout.decode()
    assert asked.returncode == 0, asked.stderr.decode()
    assert shown.startswith("1 over 3\n2 over 3\n[variables] n (int)")
    assert "2 questions, 2 calls" in shown
    assert "a.txt" in shown
    assert "counted 2" in shown
    assert "3 over" not in shown
    assert "/nonsense is not a command" in shown
    assert (tmp_path / "kept.md").read_text() == "## one\n\n1 over 3\n\n## two\n\n2 over 3\n\n"
    assert len(server.calls) == 2


def test_a_session_continues_in_another_process(home: dict[str, str], tmp_path: Path) -> None:
    with serving(counting) as server:
        first = rlm("ask", "one", "a.txt", server=server, env=home, cwd=tmp_path)
        assert first.stdout == b"1 over 3\n"
        second = rlm("ask", "--continue", "last", "two", server=server, env=home, cwd=tmp_path)
        assert second.stdout == b"2 over 3\n", second.stderr
        third = rlm("chat", "--continue", "last", server=server, stdin=b"three\n", env=home, cwd=tmp_path)
        assert third.stdout == b"3 over 3\n", third.stderr
        assert len(server.calls) == 3
        command = re.search(rb"rlm chat --continue (\S+)", third.stderr)
        assert command is not None
        replayed = rlm("replay", command[1].decode(), server=server, env=home, cwd=tmp_path)
        assert replayed.returncode == 0
        assert b"answer 3 over 3" in replayed.stderr
        assert len(server.calls) == 3


def test_unknown_runs_and_missing_files_are_usage_errors(home: dict[str, str], tmp_path: Path) -> None:
    with serving(counting) as server:
        assert rlm("chat", "nothing.txt", server=server, env=home, cwd=tmp_path).returncode == 2
        rlm("ask", "one", "a.txt", server=server, env=home, cwd=tmp_path)
        for command in (("chat", "--continue", "zzz"), ("ask", "--continue", "zzz", "two")):
            failed = rlm(*command, server=server, env=home, cwd=tmp_path)
            assert failed.returncode == 2
            assert b"zzz" in failed.stderr


def test_a_failed_question_ends_with_its_exit_status(home: dict[str, str], tmp_path: Path) -> None:
    with serving(lambda _: "nothing") as server:
        asked = rlm("chat", "a.txt", server=server, stdin=b"one\n", env=home, cwd=tmp_path)
    assert asked.returncode == 4
    assert b"neither a cell nor an answer" in asked.stderr


def test_ctrl_c_ends_only_the_question(home: dict[str, str], tmp_path: Path) -> None:
    with (
        serving(counting) as server,
        on_terminal(
            "chat",
            str(tmp_path / "a.txt"),
            server=server,
            XDG_DATA_HOME=home["XDG_DATA_HOME"],
            PROMPT_TOOLKIT_NO_CPR="1",
        ) as terminal,
    ):
        terminal.read_until(lambda shown: b"?" in shown)
        terminal.type(b"one\r")
        terminal.read_until(lambda shown: b"1 over 3" in shown)
        terminal.type(b"a slow one\r")
        until = time.monotonic() + 30
        while len(server.calls) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        terminal.type(b"\x03")
        terminal.read_until(lambda shown: b"finishing with" in shown)
        terminal.type(b"\x03")
        terminal.read_until(lambda shown: b"the session goes on" in shown)
        time.sleep(0.3)
        terminal.type(b"another\r")
        terminal.read_until(lambda shown: b"2 over 3" in shown)
        time.sleep(0.3)
        terminal.type(b"/va\t")
        terminal.read_until(lambda shown: b"/vars" in shown)
        terminal.type(b"\r")
        terminal.read_until(lambda shown: b"[variables] n (int)" in shown)
        terminal.type(b"/quit\r")
        assert terminal.finish() == 0
    history = tmp_path / "data" / "rlm" / "chat_history"
    assert "another" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
