"""``rlm`` without a model: help, version, wrong usage, wrong input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_process import ROOT, environment, rlm


@pytest.mark.parametrize("arguments", [["--help"], ["ask", "--help"], []])
def test_help_on_stdout_explains_exit_statuses(arguments: list[str]) -> None:
    ended = rlm(*arguments)
    assert ended.returncode == 0
    assert b"130  interrupted" in ended.stdout
    assert b"ask" in ended.stdout
    assert ended.stderr == b""
    assert b"\x1b" not in ended.stdout


def test_help_of_ask_names_every_option() -> None:
    shown = rlm("ask", "--help").stdout.decode()
    for option in ("--model", "--sub-model", "--depth", "--max-iterations", "--json", "--quiet", "--encoding", "FILE"):
        assert option in shown


def test_version_is_the_package_s() -> None:
    ended = rlm("--version")
    assert ended.returncode == 0
    assert ended.stdout.decode().strip().count(".") == 2


def test_help_is_quick() -> None:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        rlm("--help")
        took.append(time.perf_counter() - began)
    assert min(took) < 1.0  # 0.2 s on an idle machine; the rest is head-room


def test_help_loads_no_engine_or_http_client() -> None:
    code = (
        "import sys; from rlm.cli.main import main; main(['ask', '--help']); "
        "print([name for name in ('aiohttp', 'genai_prices', 'rlm.api', 'asyncio') if name in sys.modules])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment(), cwd=ROOT, text=True, check=True
    )
    assert "aiohttp" not in ended.stdout.splitlines()[-1]
    assert "rlm.api" not in ended.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frobnicate"], "frobnicate"),
        (["ask"], "QUESTION"),
        (["ask", "q", "f", "--no-such-option"], "--no-such-option"),
        (["ask", "q", "f", "--depth", "many"], "--depth"),
        (["ask", "q", "f", "--depth", "-1"], "--depth"),
        (["ask", "q", "f", "--max-iterations", "0"], "--max-iterations"),
        (["ask", " ", "-"], "question is empty"),
        (["ask", "q", "/no/such/file"], "/no/such/file"),
        (["ask", "q", "-", "--encoding", "klingon"], "klingon"),
        (["ask", "q"], "no text"),
        (["ask", "no-such-file", "What is it?"], "What is it?"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: list[str], told: str) -> None:
    ended = rlm(*arguments)
    assert ended.returncode == 2
    assert ended.stdout == b""
    lines = ended.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("rlm: error: ")
    assert told in lines[0]


def test_file_in_place_of_question_is_reported(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    ended = rlm("ask", "notes.txt", "What is it?", cwd=tmp_path)
    assert ended.returncode == 2
    assert b"the question must come first" in ended.stderr


def test_legacy_encoding_is_detected_and_noted(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    ended = rlm("ask", "q", "latin.txt", "--list-files", cwd=tmp_path)
    assert ended.returncode == 0
    assert b"decoded as cp1252" in ended.stdout + ended.stderr


def test_file_without_text_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(range(256)) * 8)
    ended = rlm("ask", "q", "data.bin", cwd=tmp_path)
    assert ended.returncode == 2
    assert b"data.bin (not text: an unknown binary format)" in ended.stderr


def test_json_input_error_is_one_object() -> None:
    ended = rlm("ask", "q", "/no/such/file", "--json")
    assert ended.returncode == 2
    report = json.loads(ended.stdout)
    assert report["status"] == "failed"
    assert report["answer"] is None
    assert report["error"].startswith("ContextError: cannot read /no/such/file")


def test_an_unknown_model_is_an_error_of_configuration() -> None:
    ended = rlm("ask", "q", "-", "--model", "nobody:x", stdin=b"text")
    assert ended.returncode == 2
    assert b"nobody" in ended.stderr


def test_a_traceback_is_shown_on_request_only() -> None:
    assert b"Traceback" not in rlm("ask", "q", "/no/such/file").stderr
    assert b"Traceback" in rlm("ask", "q", "/no/such/file", env={"RLM_DEBUG": "1"}).stderr


def test_missing_input_on_terminal_explains_usage() -> None:
    reader, writer = os.openpty()
    ended = subprocess.run(
        [sys.executable, "-m", "rlm", "ask", "q"],
        stdin=writer,
        capture_output=True,
        env=environment(),
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    os.close(reader)
    os.close(writer)
    assert ended.returncode == 2
    assert b"nothing to read" in ended.stderr


def test_closed_pipe_of_help_succeeds() -> None:
    command = f"{sys.executable} -m rlm ask --help | head -c 1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", command], capture_output=True, env=environment(), cwd=ROOT, timeout=60, check=True
    )
    assert b"Traceback" not in ended.stderr
    assert b"Exception ignored" not in ended.stderr
