"""``rlm ask`` end to end: a real process, a real socket, the answer alone on stdout."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_process import ROOT, cell, environment, on_terminal, rlm, root_writes, serving

from rlm.testing.wire import ChatCall, ScriptedReply

MODEL = ["--model", "gpt-4o", "--sub-model", "gpt-4o-mini"]
MAP_REDUCE = cell(
    "parts = llm_query_batch([f'part {i}: {context[i * 4:i * 4 + 4]}' for i in range(40)])\nFINAL(' / '.join(parts[:2]))"
)


def test_a_question_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("Call me Ishmael. " * 20)
    with serving(root_writes(MAP_REDUCE, leaf="whale")) as server:
        ended = rlm("ask", "Who?", "book.txt", *MODEL, server=server, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, b"whale / whale\n")
    told = ended.stderr.decode()
    assert "root cell 1.1 ok" in told
    assert "40 sub-calls: 40 done" in told
    assert "41 calls: 41 done" in told
    assert "\x1b" not in told
    assert "\r" not in told
    assert len(server.calls) == 41
    assert {call.model for call in server.calls if not call.is_root} == {"gpt-4o-mini"}


def test_quiet_leaves_stderr_empty() -> None:
    with serving(root_writes(MAP_REDUCE)) as server:
        ended = rlm("ask", "Who?", "--quiet", *MODEL, server=server, stdin=b"text " * 50)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_json_is_one_object_with_usage() -> None:
    with serving(root_writes(cell("FINAL({'towns': ['Ulm'], 'n': len(context)})"))) as server:
        ended = rlm("ask", "Which?", "-", "--json", "-q", *MODEL, server=server, stdin=b"abc")
    assert ended.returncode == 0
    report = json.loads(ended.stdout)
    assert report["answer"] == {"towns": ["Ulm"], "n": 3}
    assert report["status"] == "complete"
    assert report["models"] == ["openai:gpt-4o", "openai:gpt-4o-mini"]
    assert report["usage"]["calls"] == 1
    assert report["usage"]["input_tokens"] > 0
    assert report["cost_usd"] > 0
    assert report["run_id"]
    assert report["elapsed_s"] >= 0
    assert report["error"] is None
    assert report["limit"] is None


def test_files_and_folders_become_dict_by_path(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "b.md").write_text("bee")
    (tmp_path / "docs" / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (tmp_path / "a.txt").write_text("ay")
    with serving(root_writes(cell("FINAL(sorted(context.items()))"))) as server:
        ended = rlm("ask", "q", "a.txt", "docs", *MODEL, server=server, cwd=tmp_path)
    assert ended.returncode == 0
    assert json.loads(ended.stdout) == [["a.txt", "ay"], ["docs/b.md", "bee"]]
    assert "read 2 documents, 5 characters; left out: docs/logo.png (not text: an image)" in ended.stderr.decode()


def test_list_files_asks_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ay")
    (tmp_path / "b.csv").write_text("Team,Cups\nBlues,1\n")
    ended = rlm("ask", "--list-files", "--exclude", "a.*", str(tmp_path))
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.decode().splitlines()] == ["FORMAT", "csv", "1"]
    listed = json.loads(rlm("ask", "what?", str(tmp_path), "--list-files", "--json").stdout)
    assert [item["kind"] for item in listed["documents"]] == ["text", "csv"]


def test_long_question_is_never_a_path() -> None:
    with serving(root_writes("FINAL(42)")) as server:
        ended = rlm("ask", "why " * 65, "-", *MODEL, server=server, stdin=b"text")
    assert (ended.returncode, ended.stdout) == (0, b"42\n")


def test_question_with_dashes_gets_hint() -> None:
    ended = rlm("ask", "--no-cache is what?", "-", stdin=b"text")
    assert ended.returncode == 2
    assert b'-- "QUESTION" FILE' in ended.stderr
    with serving(root_writes("FINAL(42)")) as server:
        assert rlm("ask", *MODEL, "--", "--x is what?", "-", server=server, stdin=b"text").stdout == b"42\n"


def test_a_partial_answer_is_printed_with_status_3() -> None:
    script = root_writes(cell("x = 1"), "FINAL(what there is)")
    with serving(script) as server:
        ended = rlm("ask", "q", "-", "--max-iterations", "1", *MODEL, server=server, stdin=b"text")
    assert (ended.returncode, ended.stdout) == (3, b"what there is\n")
    assert b"limit on iterations was met" in ended.stderr


def test_no_answer_is_status_4() -> None:
    with serving(root_writes(cell("x = 1"))) as server:
        ended = rlm("ask", "q", "-", "--max-iterations", "2", "--json", *MODEL, server=server, stdin=b"text")
    assert ended.returncode == 4
    report = json.loads(ended.stdout)
    assert report["answer"] is None
    assert report["usage"]["calls"] == 3
    assert report["error"].startswith("NoAnswerError")


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (ScriptedReply("bad key", status=401, error_code="invalid_api_key"), "key"),
        (ScriptedReply("no such model", status=404, error_code="model_not_found"), "gpt-4o"),
    ],
)
def test_provider_refusal_is_status_1_and_one_line(reply: ScriptedReply, told: str) -> None:
    with serving(lambda _: reply) as server:
        ended = rlm("ask", "q", "-", "--quiet", *MODEL, server=server, stdin=b"text")
    assert (ended.returncode, ended.stdout) == (1, b"")
    lines = ended.stderr.decode().splitlines()
    assert len(lines) == 1
    assert told in lines[0]
    assert "Traceback" not in lines[0]


def test_escape_sequences_pass_pipes_but_not_logs() -> None:
    evil = "\x1b]0;owned\x07\x1b[2Jtext\u202e"
    with serving(root_writes(cell(f"raise ValueError({evil!r})"), cell(f"FINAL({evil!r})"))) as server:
        ended = rlm("ask", evil, "-", *MODEL, server=server, stdin=b"text")
    assert ended.stdout.decode() == f"{evil}\n"
    assert b"ValueError" in ended.stderr
    assert not set(ended.stderr) & {0x1B, 0x07}


def test_live_tree_precedes_answer_on_terminals(tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text("Call me Ishmael. " * 20)
    with (
        serving(root_writes(MAP_REDUCE, leaf="whale"), latency_s=0.4) as server,
        on_terminal("ask", "Who?", str(book), *MODEL, server=server) as terminal,
    ):
        terminal.read_until(lambda seen: b"batch of 40: 40 running" in seen)
        status = terminal.finish()
    shown = terminal.output.decode()
    assert status == 0
    assert shown.count("\x1b[?25l") == 1
    assert shown.index("\x1b[?25h") < shown.index("whale / whale")
    assert "41 calls: 41 done" in shown
    assert shown.rstrip().splitlines()[-2].endswith("whale / whale")  # before the line about coverage


def test_no_model_can_act_on_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x1b[2J\x1b]52;c;AAAA\x07visible\u202e\x9b5n"
    with (
        serving(
            root_writes(cell(f"# {evil}\nraise ValueError({evil!r})"), cell(f"FINAL({evil!r})"), leaf=evil)
        ) as server,
        on_terminal("ask", evil, str(Path(__file__)), *MODEL, server=server) as terminal,
    ):
        assert terminal.finish() == 0
    shown = terminal.output.decode()
    assert shown.rstrip().splitlines()[-2].endswith("visible")  # the answer, without its power
    assert "\x1b]" not in shown
    assert not set(shown) & {"\x07", "\u202e", "\x9b"}
    assert set(re.findall(r"\x1b\[[0-9;?]*([A-Za-z])", shown)) <= set("mAKlh")


def test_second_ctrl_c_cancels_and_restores_cursor() -> None:
    def answer(call: ChatCall) -> str | ScriptedReply:
        return cell("llm_query('wait')") if call.is_root and call.turn == 1 else ScriptedReply(hang=True)

    with (
        serving(answer) as server,
        on_terminal("ask", "q", str(Path(__file__)), *MODEL, server=server) as terminal,
    ):
        terminal.read_until(lambda seen: b"1 running" in seen and b"cell 1.1" in seen)
        began = time.monotonic()
        terminal.type(b"\x03")
        time.sleep(0.2)
        terminal.type(b"\x03")
        status = terminal.finish()
        took = time.monotonic() - began
    shown = terminal.output.decode()
    assert status == 130
    assert took < 10
    assert "\x1b[?25h" in shown
    assert "interrupted" in shown
    assert "Traceback" not in shown
    assert "cancelled" in shown


SLOW_CELL = "found = 7\nprint(found)\nllm_query('wait')"


@pytest.mark.parametrize(
    ("number", "times", "status", "answer_text"),
    [
        (signal.SIGINT, 1, 3, b"7\n"),
        (signal.SIGINT, 2, 130, b""),
        (signal.SIGTERM, 1, 143, b""),
        (signal.SIGHUP, 1, 143, b""),
    ],
)
def test_signals_end_the_run_with_their_status(
    number: signal.Signals, times: int, status: int, answer_text: bytes
) -> None:
    """Ctrl-C once gives the answer from what there is; twice, or a signal to end, gives none."""

    def answer(call: ChatCall) -> str | ScriptedReply:
        if not call.is_root:
            return ScriptedReply(hang=True)
        return cell(SLOW_CELL) if call.turn == 1 else ScriptedReply("FINAL_VAR(found)", hang=times > 1)

    command = [sys.executable, "-m", "rlm", "ask", "q", __file__, *MODEL]
    pipe = subprocess.PIPE
    with (
        serving(answer) as server,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment(server), cwd=ROOT
        ) as process,
    ):
        deadline = time.monotonic() + 30
        while len(server.calls) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.3)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == status
    assert out == answer_text
    assert b"Traceback" not in err
    if times == 1 and number == signal.SIGINT:
        assert b"partial answer" in err
        assert b"the user asked to finish" in err


def test_closed_pipe_of_answer_succeeds() -> None:
    with serving(root_writes(cell("FINAL('x' * 1_000_000)"))) as server:
        command = f'{sys.executable} -m rlm ask q {__file__} -q --model gpt-4o | head -c 3; echo " ${{PIPESTATUS[0]}}"'
        ended = subprocess.run(
            ["bash", "-c", command], capture_output=True, env=environment(server), cwd=ROOT, timeout=60, check=True
        )
    assert ended.stdout == b"xxx 0\n"
    assert ended.stderr == b""


def test_unwritable_answer_is_status_1() -> None:
    with serving(root_writes(cell("FINAL('lost')"))) as server, Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "rlm", "ask", "q", __file__, "-q", *MODEL],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(server),
            cwd=ROOT,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.decode().startswith("rlm: error: cannot write to stdout: No space left")
    assert len(ended.stderr.splitlines()) == 1


def test_the_default_models_are_named_in_one_line() -> None:
    with serving(root_writes("FINAL(42)")) as server:
        ended = rlm("ask", "q", "-", server=server, stdin=b"text")
    assert ended.returncode == 0
    told = [line for line in ended.stderr.decode().splitlines() if "no model named" in line]
    assert len(told) == 1
