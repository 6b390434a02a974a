"""A recorded run is data: commands on a store from elsewhere grant it nothing that its reader did not allow."""

from __future__ import annotations

import io
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from cli_process import cell, serving

import rlm
from rlm.cli.main import main
from rlm.core.errors import UntrustedRecordError
from rlm.core.messages import JsonValue, Request
from rlm.runtime.authority import consent_options, restore_allowed
from rlm.runtime.journaling import STORES
from rlm.sandbox.launchers.levels import find_level
from rlm.testing.scripted import ScriptedModel
from rlm.testing.wire import ChatCall

COMMANDS = (["replay", "last"], ["debug", "last", "--at", "0/1"], ["resume", "last"])
WEAKER = "unconfined" if find_level().best != "unconfined" else "auto"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store of one run that met a limit, from elsewhere."""
    place = tmp_path / "runs.db"
    monkeypatch.setenv("RLM_STORE", str(place))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-reader")
    record(place, "print(40 + 2)")
    return place


def record(place: Path, code: str, **options: Any) -> str:
    def script(request: Request) -> str:
        if any(message.role == "assistant" for message in request.messages):
            return "FINAL(ended)"
        return cell(code)

    model = ScriptedModel(script, name="openai:m")
    with rlm.RLM(model, store=place, **options) as engine:
        run = engine.run("q", "context").run_id
    STORES.open(place).runs()  # brings the tail into the database
    return run


def forge(place: Path, **options: Any) -> None:
    """Changes recorded options of all runs."""
    with sqlite3.connect(place) as connection:
        for number, known in connection.execute("SELECT number, options FROM runs").fetchall():
            changed = json.dumps({**json.loads(known), **options})
            connection.execute("UPDATE runs SET options=? WHERE number=?", [changed, number])
    connection.close()


def forge_context(place: Path, **facts: Any) -> None:
    with sqlite3.connect(place) as connection:
        (known,) = connection.execute("SELECT context FROM runs").fetchone()
        connection.execute("UPDATE runs SET context=?, context_data=NULL", [json.dumps({**json.loads(known), **facts})])
    connection.close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"sandbox": WEAKER}, "--sandbox"),
        ({"sandbox": "seccomp"}, "--sandbox"),
        ({"sandbox": ["unconfined"]}, "--sandbox"),
        ({"sandbox_packages": ["yarl"]}, "--sandbox-package"),
        ({"setup_code": "print(1)"}, "--setup-code"),
        ({"memory_mb": 1_000_000}, "--memory-mb"),
        ({"cell_seconds": 1e9}, "--cell-seconds"),
    ],
)
def test_wider_sandbox_needs_the_readers_flag(
    place: Path, capfd: pytest.CaptureFixture[str], command: list[str], options: dict[str, Any], flag: str
) -> None:
    forge(place, **options)
    assert main(command) == 2
    message = capfd.readouterr().err
    assert f"give {flag} yourself" in message
    assert next(iter(options)) in message


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        ({"base_url": "http://127.0.0.1:9/v1"}, "--base-url"),
        ({"models": ["plan:/tmp/other.py", "openai:m"]}, "--model"),
        ({"models": ["PLAN: ../other.py", "openai:m"]}, "--model"),
        ({"models": ["openai:m", "local:/tmp/other.gguf"]}, "--sub-model"),
        ({"models": ["plan:map_reduce", "somebody:m"]}, "--sub-model"),
    ],
)
def test_addresses_and_loaded_models_need_the_readers_flag(
    place: Path, capfd: pytest.CaptureFixture[str], options: dict[str, Any], flag: str
) -> None:
    forge(place, **options)
    assert main(["resume", "last"]) == 2
    assert f"give {flag} yourself" in capfd.readouterr().err
    forge(place, windows=[1000] * len(options.get("models", ["openai:m"])))
    assert main(["replay", "last"]) != 2  # it asks no model
    assert "yourself" not in capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_recorded_cell_is_not_executed_unconfined(tmp_path: Path, place: Path, command: list[str]) -> None:
    marker = tmp_path / "marker"
    record(place, f"open({str(marker)!r}, 'w').close()", sandbox="unconfined")
    assert marker.exists()
    marker.unlink()
    assert main(command) == 2
    assert not marker.exists()
    assert main([*command, "--sandbox", "unconfined"]) == 0
    assert marker.exists()


def test_key_is_not_sent_to_recorded_address(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[ChatCall] = []

    def spy(call: ChatCall) -> str:
        calls.append(call)
        return "FINAL(ended)"

    with serving(spy) as server:
        with sqlite3.connect(place) as connection:
            connection.execute("DELETE FROM events")
            connection.execute("UPDATE runs SET status=NULL, owner=NULL")
        connection.close()
        forge(place, base_url=server.base_url)
        assert main(["resume", "last"]) == 2
        assert calls == []
        allowed = {"base_url": server.base_url}
        assert restore_allowed("r", {"models": ["openai:m"], **allowed}, allowed)["base_url"] == server.base_url
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url + "/")  # this machine would use it anyway
        assert restore_allowed("r", {"models": ["openai:m"], **allowed}, {})


def test_recorded_plan_file_is_not_executed(tmp_path: Path, place: Path) -> None:
    marker, plan = tmp_path / "marker", tmp_path / "other.py"
    plan.write_text(f"open({str(marker)!r}, 'w').close()\ndef plan(task):\n    yield 'FINAL(1)'\n")
    forge(place, models=[f"plan:{plan}", "openai:m"])
    assert main(["resume", "last"]) == 2
    assert not marker.exists()
    options = restore_allowed("r", {"models": [f"plan:{plan}", "openai:m"]}, {"model": f"plan:{plan}"})
    assert options["models"] == [f"plan:{plan}", "openai:m"]


def test_error_is_typed_and_names_every_option() -> None:
    record = {"models": ["openai:m"], "sandbox": "unconfined", "setup_code": "x = 1", "sandbox_packages": ["numpy"]}
    with pytest.raises(UntrustedRecordError) as caught:
        restore_allowed("r", record, {"setup_code": "x = 1"})
    assert caught.value.options == ("sandbox", "sandbox_packages")
    assert caught.value.flags == ("--sandbox", "--sandbox-package")
    assert set(caught.value.options) <= rlm.options.DECLARED.keys()


def test_harmless_options_need_no_flag() -> None:
    best = find_level().best
    record = {"models": ["plan:map_reduce", "local:smollm2"], "sandbox": best, "memory_mb": 64, "cell_seconds": 5}
    assert restore_allowed("r", record, {}) == {**record}


@pytest.mark.parametrize(("price", "refused"), [([0.0, 0.0], True), ([-9.0, 99.0], True), ([99.0, 99.0], False)])
def test_cheap_recorded_price_does_not_loosen_own_limit(price: list[float], refused: bool) -> None:
    record: dict[str, JsonValue] = {"models": ["openai:gpt-4o"], "prices": {"openai:gpt-4o": [*price]}}
    assert restore_allowed("r", record, {})["prices"]
    limit = {"budget": rlm.Budget(usd=1.0)}
    if not refused:
        assert restore_allowed("r", record, limit)
        return
    with pytest.raises(UntrustedRecordError, match="--price"):
        restore_allowed("r", record, limit)
    own = {**limit, "prices": {"openai:gpt-4o": (2.5, 10.0)}}
    assert restore_allowed("r", record, own)["prices"] == {"openai:gpt-4o": (2.5, 10.0)}


def test_recorded_path_without_digest_is_not_read(
    tmp_path: Path, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "private.txt"
    private.write_text("a secret of the reader")
    forge_context(place, sources=[str(private)], path=str(private), digest="", size=1)
    assert main(["replay", "last"]) == 2
    assert "give it again" in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/dev/zero", "/"])
def test_recorded_device_or_large_folder_is_not_read(place: Path, capfd: pytest.CaptureFixture[str], path: str) -> None:
    forge_context(place, sources=[path], path=path, size=10)
    assert main(["replay", "last"]) == 2
    assert "give it again" in capfd.readouterr().err


def test_printed_command_repeats_consent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    options: dict[str, Any] = {
        "sandbox": "unconfined",
        "setup_code": "y = 1",
        "memory_mb": 4096,
        "base_url": "http://127.0.0.1:9/v1",
    }
    with rlm.RLM("openai:m", store=tmp_path / "runs.db", **options) as engine:
        assert consent_options(engine.options) == options
    with rlm.RLM("openai:m", store=tmp_path / "runs.db") as plain:
        assert consent_options(plain.options) == {}


@pytest.mark.parametrize(
    ("pattern", "forged"),
    [
        (rb'(\["-",[^]]*?(?:"|null)),1,', rb"\1,-50,"),
        (rb'(\["-",[^]]*?(?:"|null),1),\d+,', rb"\1,-90000,"),
        (rb'"depth":0,"model"', rb'"depth":-9,"model"'),
        (rb'(\["-",[^]]*?(?:"|null),1),\d+,', rb'\1,"many",'),
        (rb'"depth":0,"model"', rb'"depth":"0","model"'),
        (rb'"node":"0"', rb'"node":'),
    ],
    ids=["calls", "tokens", "depth", "text", "type", "json"],
)
def test_damaged_or_negative_record_is_refused(
    place: Path, pattern: bytes, forged: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with sqlite3.connect(place) as connection:
        for seq, data in connection.execute("SELECT seq, data FROM events").fetchall():
            connection.execute("UPDATE events SET data=? WHERE seq=?", [re.sub(pattern, forged, data), seq])
    connection.close()
    for command in COMMANDS:
        assert main(command) == 1
        assert "is damaged" in capfd.readouterr().err
