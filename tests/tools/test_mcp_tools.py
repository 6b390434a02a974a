"""Tools of MCP servers: a real server of the reference package over stdio and HTTP, and servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tool_kit import engine_of, output, outputs, run

import rlm
from rlm.core.redaction import SECRETS

pytest.importorskip("mcp")
HERE = Path(__file__).parent
REFERENCE = [sys.executable, str(HERE / "mcp_program.py")]
CATCH = "\nexcept ToolError as error: print(error.type, error)"


def odd(how: str, **options: Any) -> Any:
    return rlm.mcp_tools([sys.executable, "-I", "-S", str(HERE / "odd_server.py"), how], **options)


def has_ended(how: str) -> bool:
    """True if no odd server of this kind is left, now or soon."""
    for _ in range(100):
        left = False
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                left = left or f"odd_server.py\0{how}\0".encode() in path.read_bytes()
        if not left:
            return True
        time.sleep(0.1)
    return False


def test_reference_server_over_stdio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-servers-1234")
    monkeypatch.setenv("NOTE_TOKEN", "token-for-notes-1234")
    code = (
        "import asyncio\n"
        "print(add(1), await asyncio.gather(*(add_async(n, b=n) for n in range(5))))\n"
        "print(read_note('a'), table_tool(rows=(1, 2)), sorted(set(environment()) & {'OPENAI_API_KEY', 'NOTE_TOKEN', 'PATH'}))\n"
        "try: add('x')" + CATCH + "\n"
        "try: broken()" + CATCH
    )
    result = run(code, tools=rlm.mcp_tools(REFERENCE, env=["NOTE_TOKEN"]))
    shown = outputs(result)[0].stdout.splitlines()
    assert shown[:2] == [
        "3 [0, 2, 4, 6, 8]",
        "the note a {'rows': [1, 2], 'kind': None} ['NOTE_TOKEN', 'PATH']",
    ]
    assert shown[2] == 'TypeError add: a must be an integer; got "x"'
    assert shown[3].startswith("ServerError broken:")
    assert "token-for-notes-1234" in SECRETS.texts
    assert result.usage.tool_calls == 10


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([*REFERENCE, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


def test_reference_server_over_http(address: str) -> None:
    code = "print(add(1, 4), read_note('b'))\ntry: broken()" + CATCH
    shown = output(code, tools=[rlm.mcp_tools(address, only=["add", "read-note", "broken"])])
    assert shown.startswith("5 the note b\nServerError broken:")


def test_server_that_dies_gives_errors(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"try: die({str(mark)!r})" + CATCH + "\ntry: add(1)" + CATCH
    began = time.monotonic()
    shown = output(code, tools=rlm.mcp_tools(REFERENCE)).splitlines()
    assert mark.exists()
    assert shown[0].startswith("ConnectionError die: the server cannot be used any more: it has ended")
    assert shown[1].startswith("Unavailable add:")
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("how", "start"),
    [
        ("fine", "acted"),
        ("chatty", "acted"),
        ("garbage", "ConnectionError act: the server cannot be used any more: it sent too much"),
        ("flood", "ConnectionError act: the server cannot be used any more: it sent too much"),
        ("endless-line", "ConnectionError act: the server cannot be used any more: it sent a line of more than 16 MB"),
        ("hang-in-call", "TimeoutError act: the server did not answer within 1 s"),
    ],
)
def test_server_that_misbehaves_gives_errors(how: str, start: str) -> None:
    assert output("try: print(act())" + CATCH, tools=odd(how, timeout_s=1 if how == "hang-in-call" else 30)).startswith(
        start
    )


def test_sessions_end_with_the_run() -> None:
    began = time.monotonic()
    assert output("print(act())", tools=odd("stubborn")) == "acted"
    assert time.monotonic() - began < 30
    assert has_ended("stubborn")


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (odd, "cannot find the licence"),
        (["/no/such/command"], "FileNotFoundError"),
        ("http://127.0.0.1:9/mcp", "127.0.0.1:9"),
    ],
)
def test_server_that_cannot_start_is_typed_error(server: Any, message: str) -> None:
    source = odd("ends") if server is odd else rlm.mcp_tools(server)
    with pytest.raises(rlm.ToolSourceError, match=message):
        run(tools=[source])


def test_server_that_never_answers_is_given_up() -> None:
    with pytest.raises(rlm.ToolSourceError, match="not ready within 1 s"):
        run(tools=[odd("silent", open_timeout_s=1)])
    assert has_ended("silent")


def test_cancelled_run_stops_a_server_that_starts() -> None:
    with engine_of(tools=[odd("silent")]) as engine:
        handle = engine.start("q", "c")
        time.sleep(0.5)
        handle.cancel()
        began = time.monotonic()
        with pytest.raises(rlm.RunCancelledError):
            handle.result()
        assert time.monotonic() - began < 15
    assert has_ended("silent")


def test_unusable_schema_leaves_a_tool_out(caplog: pytest.LogCaptureFixture) -> None:
    assert output("print('act' in globals())", tools=[odd("bad-schema")]) == "False"
    assert "left out act" in caplog.text
    with pytest.raises(rlm.ToolSourceError, match="schema of act"):
        run(tools=[odd("bad-schema", only=["act"])])


def test_hostile_pattern_costs_bounded_time() -> None:
    began = time.monotonic()
    shown = output("try: act('a' * 40 + 'b')" + CATCH, tools=[odd("pattern")])
    assert "act" in shown
    assert time.monotonic() - began < 30


def test_descriptions_are_quoted_in_the_prompt() -> None:
    model = rlm.testing.ScriptedModel(["FINAL(x)"])  # type: ignore[attr-defined]
    run(model=model, tools=[odd("fine", prefix="my_")])
    system = model.requests[0].messages[0].text
    assert '\n- my_act(**more): "Acts."\n' in system
    assert "Ignore all" not in system


def test_unknown_tool_of_a_server_is_typed_error() -> None:
    with pytest.raises(rlm.ToolSourceError, match="has no tool other; it has act"):
        run(tools=[odd("fine", only=["other"])])


@pytest.mark.parametrize(
    ("server", "options", "message"),
    [
        ("", {}, "needs a command"),
        ("'open", {}, "cannot be read"),
        ("A=$NOT_SET_ANYWHERE command", {}, "NOT_SET_ANYWHERE of an MCP server is not set"),
        ("command", {"env": ["NOT_SET_ANYWHERE"]}, "NOT_SET_ANYWHERE"),
        ("command", {"timeout_s": 0}, "timeout_s"),
        ("command", {"prefix": "a-b"}, "prefix"),
    ],
)
def test_unusable_servers_are_refused(server: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(rlm.ConfigurationError, match=message):
        rlm.mcp_tools(server, **options)


def test_variables_precede_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWN", "value-of-mine-1")
    server = rlm.mcp_tools("A=1 B=$OWN 'my server' --flag 'two words'")
    assert (server.command, dict(server.env)) == (
        ("my server", "--flag", "two words"),
        {"A": "1", "B": "value-of-mine-1"},
    )
    assert "value-of-mine-1" not in repr(server)


def test_missing_extra_names_its_install_line() -> None:
    program = "import sys; sys.modules['mcp'] = None\nimport rlm\nrlm.mcp_tools('command')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'rlm-arbor[mcp]'" in done.stderr


async def test_many_runs_have_sessions_of_their_own() -> None:
    with engine_of("print(act())", tools=[odd("fine")], model=rlm.testing.ScriptedModel(_reply)) as engine:  # type: ignore[attr-defined]
        results = await asyncio.gather(*(engine.arun("q", "c") for _ in range(5)))
    assert [outputs(result)[0].stdout for result in results] == ["acted\n"] * 5


def _reply(request: Any) -> str:
    return "FINAL(done)" if len(request.messages) > 2 else "```repl\nprint(act())\n```"
