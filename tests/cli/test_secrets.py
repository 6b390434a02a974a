"""No secret of the environment is in anything that a run leaves: files, pages, exports, lists, logs, errors and reprs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_process import ROOT, cell, environment, serving
from cli_process import rlm as run_rlm

import rlm
from rlm.core.redaction import SECRETS, redact_address, redactor, secrets_of_environment
from rlm.log import get_logger
from rlm.testing.scripted import ScriptedModel
from rlm.testing.server import ScriptedServer
from rlm.testing.wire import ChatCall, ScriptedReply

ENV = {
    "OPENAI_API_KEY": "sk-of-openai-0001",
    "ANTHROPIC_API_KEY": "anthropic-key-0002",
    "HF_TOKEN": "hf_token_0003",
    "GITHUB_TOKEN": "ghp-0004-ütf8",
    "SERVICE_PASSWORD": "pass\"word\\<0005>&'",
    "AWS_SECRET_ACCESS_KEY": "aws/secret+0006==",
    "DATABASE_URL": "postgres://admin:db-pass-0007@db.example/x",
    "HTTPS_PROXY": "http://user:proxy%2Fpass-0008@proxy.example:3128",
    "no_proxy": "127.0.0.1",
}
SECRETS_OF_ENV = [
    *(value for name, value in ENV.items() if "://" not in value and name != "no_proxy"),
    "db-pass-0007",
    "proxy%2Fpass-0008",
    "proxy/pass-0008",
]


def forms(secret: str) -> set[bytes]:
    texts = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return {text.encode() for text in texts | {text.replace("<", "\\u003c") for text in texts}}


def assert_clean(data: bytes, place: str) -> None:
    for secret in [*SECRETS_OF_ENV, "in-query-0009"]:
        for form in forms(secret):
            at = data.find(form)
            assert at < 0, f"{secret} is in {place}: {data[max(0, at - 80) : at + 80]!r}"


def assert_clean_folder(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert_clean(path.read_bytes(), path.name)


LEAK = "keys: " + " | ".join(SECRETS_OF_ENV)
CODE = (
    "print(llm_query('repeat'))\nprint(repr(llm_query('fail')))\nprint(llm_query_batch(['repeat', 'other']))\n"
    "import sys\nprint(llm_query('repeat'), file=sys.stderr)"
)


def leaking(call: ChatCall) -> str | ScriptedReply:
    """A provider that repeats every secret, in replies, cells and errors."""
    text = call.messages[-1].content
    if not call.is_root:
        return ScriptedReply(f"refused {LEAK}", status=400) if text == "fail" else LEAK
    return cell(CODE) if call.turn == 1 else cell(f"# {LEAK}\nFINAL({LEAK!r})") if call.turn == 2 else "FINAL(x)"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving(leaking) as server:
        yield server


@pytest.mark.parametrize("options", [[], ["--cache"], ["--cache", "--no-store-texts"]], ids=" ".join)
def test_commands_leave_no_secret(tmp_path: Path, server: ScriptedServer, options: list[str]) -> None:
    env = {**ENV, "RLM_STORE": str(tmp_path / "runs.db"), "RLM_DEBUG": "1"}
    base = ["--base-url", server.base_url]
    (tmp_path / "input").mkdir()
    asked = run_rlm("ask", "-m", "openai:m", *base, *options, "Which?", env=env, stdin=f"x {LEAK}".encode())
    assert asked.returncode == 0, asked.stderr
    assert_clean(asked.stderr, "the log of a run")
    assert_clean_folder(tmp_path)
    commands = (
        ["runs"], ["runs", "--json"], ["show"], ["show", "--full"], ["export"], ["export", "--format", "jsonl"], ["replay"],
    )  # fmt: skip
    for command in commands:
        ended = run_rlm(*command, env=env)
        assert_clean(ended.stdout + ended.stderr, " ".join(command))


def test_killed_run_leaves_no_secret(tmp_path: Path) -> None:
    asked: list[str] = []

    def hanging(call: ChatCall) -> str | ScriptedReply:
        if call.is_root and call.turn == 2:
            asked.append("")
            return ScriptedReply("", hang=True)
        return leaking(call)

    with serving(hanging) as server:
        env = environment(server, **ENV, RLM_STORE=str(tmp_path / "runs.db"))
        command = [sys.executable, "-m", "rlm", "ask", "-m", "openai:m", "--cache", "Which?", str(ROOT / "LICENSE")]
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
        deadline = time.monotonic() + 30
        while not asked:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        _, log = process.communicate()
    assert_clean(log, "the log of a killed run")
    assert any("-tail-" in path.name for path in tmp_path.iterdir())
    assert_clean_folder(tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "http://user:in-query-0009@127.0.0.1:9/v1",
        "http://127.0.0.1:9/v1?api-key=in-query-0009",
        "http://in-query-0009@127.0.0.1:9/v1",
        "ftp://user:in-query-0009@host/v1",
        "http://user:short@127.0.0.1:9/v1",
    ],
)
def test_address_loses_its_password_everywhere(tmp_path: Path, address: str) -> None:
    env = {**ENV, "RLM_STORE": str(tmp_path / "runs.db"), "RLM_DEBUG": "1"}
    failed = run_rlm("ask", "-m", "openai:m", "--retries", "0", "--base-url", address, "Which?", env=env, stdin=b"x")
    assert failed.returncode != 0
    listed = run_rlm("resume", "last", env=env).stderr + run_rlm("show", "--full", env=env).stdout
    for data in (failed.stdout, failed.stderr, listed):
        assert_clean(data, address)
        assert b"user:short" not in data
    for path in tmp_path.iterdir():
        assert_clean(path.read_bytes(), path.name)
        assert b":short@" not in path.read_bytes()


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("secrets")
def test_result_repr_and_page_hold_no_secret(tmp_path: Path) -> None:
    key = "given-key-0010"

    with rlm.RLM(
        ScriptedModel(lambda request: f"FINAL({LEAK} {key})"), api_key=key, store=tmp_path / "runs.db"
    ) as engine:
        result = engine.run("q", LEAK)
        page, options = engine.report_html(), repr(engine.options)
    assert key in str(result)  # the answer belongs to the caller
    with rlm.open_store(tmp_path / "runs.db") as store:
        stored = repr(store.result())
    for text in (repr(result), rlm.report_html(result), page, options, stored):
        assert_clean(text.encode(), text[:40])
        assert key not in text


@pytest.mark.usefixtures("secrets")
def test_errors_and_logs_hold_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    def failing(_: object) -> str:
        raise rlm.RequestRejectedError(LEAK, model="m")

    class Sink:
        def emit(self, _: object) -> None:
            raise ValueError(LEAK)

    with rlm.RLM(ScriptedModel(failing), store=None, sinks=[Sink()]) as engine, pytest.raises(rlm.RLMError) as caught:
        engine.run("q", "c")
    error = rlm.ModelError(LEAK, model="m")
    for text in (str(caught.value), str(error), repr(error), caplog.text):
        assert_clean(text.encode(), text[:40])
    assert "a sink failed" in caplog.text
    get_logger("rlm.test").warning("%s and %d", ENV["HF_TOKEN"], 3)
    assert "[redacted] and 3" in caplog.text


def test_sources_of_secrets_are_found() -> None:
    env = {
        "X_API_KEY": "aaaa-1111",
        "TOKEN": "bbbb-2222",
        "PGPASSWORD": "cccc-3333",
        "MY_SECRET": " dddd-4444\n",
        "ALL_PROXY": "me:eeee-5555@host:3128",
        "SOME_URL": "https://host/x?sig=ffff-6666&api-version=2024-01-01",
        "TOKENIZERS_PARALLELISM": "unrelated-value",
        "KEYBOARD": "unrelated-too",
    }
    data = " ".join(env.values()).encode()
    redacted = redactor(secrets_of_environment(env))(data)
    for secret in (b"1111", b"2222", b"3333", b"4444", b"5555", b"6666"):
        assert secret not in redacted
    for text in (b"unrelated-value", b"unrelated-too", b"2024-01-01", b"host:3128"):
        assert text in redacted


def test_short_words_and_numbers_stay() -> None:
    data = b'{"dummy": 0.12345678, "key": "test"}'
    assert redactor(["dummy", "test", "12345678", "", "key"])(data) == data


@pytest.mark.parametrize(
    ("address", "redacted"),
    [
        ("http://u:p@h/v1", "http://[redacted]@h/v1"),
        ("see https://h/v1?api-version=2&api_key=abc&x=1", "see https://h/v1?api-version=2&api_key=[redacted]&x=1"),
        ("https://h/a@b?q=who", "https://h/a@b?q=who"),
    ],
)
def test_redaction_spares_harmless_parts_of_addresses(address: str, redacted: str) -> None:
    assert redact_address(address) == redacted


def test_registered_secrets_stay() -> None:
    SECRETS.add(["registered-0011", None, "x"])
    assert SECRETS.redact(b"a registered-0011 x") == b"a [redacted] x"
    assert "registered-0011" in SECRETS.texts
