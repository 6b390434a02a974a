"""Output on stdout: unchanged through a pipe, harmless on a terminal, and never lost in silence."""

from __future__ import annotations

import datetime
import io
import json
import os
import pty
from decimal import Decimal
from pathlib import Path

import pytest

from rlm.cli.output import OutputError, describe_failure, describe_result, write_answer, write_json
from rlm.core.ids import RunId
from rlm.core.messages import Usage
from rlm.core.plain import to_json
from rlm.core.result import Result
from rlm.core.usage import Spend, UsageReport


def piped(answer: object) -> bytes:
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="ascii")
    write_answer(answer, stdout)
    return raw.getvalue()


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        ("plain", b"plain\n"),
        ("ends\n", b"ends\n"),
        ("\x1b[31mas it is\x1b[0m\r", b"\x1b[31mas it is\x1b[0m\r\n"),
        ("Grüße 🙂", "Grüße 🙂\n".encode()),
        ("half \ud800", b"half \\ud800\n"),
        (42, b"42\n"),
        (True, b"true\n"),
        (["a", 1], b'[\n  "a",\n  1\n]\n'),
        ("", b"\n"),
    ],
)
def test_pipe_receives_plain_text_and_json_data(answer: object, written: bytes) -> None:
    assert piped(answer) == written


def test_terminal_receives_no_control_sequences() -> None:
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w", encoding="utf-8") as terminal:
        write_answer("\x1b]0;owned\x07one\n\ttwo \x1b[2J\u202ethree", terminal)
        shown = os.read(reader, 1000).decode()
    os.close(reader)
    assert shown.split() == ["one", "two", "three"]
    assert "\x1b" not in shown


def test_full_disk_fails_and_closed_pipe_succeeds(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left"), Path("/dev/full").open("w") as full:
        write_answer("lost", full)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        write_answer("nobody reads this", pipe)
    with pytest.raises(OutputError, match="closed"):
        write_answer("x", None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": (1, {2, 1})}, {"a": [1, [1, 2]]}),
        ({1: None, (1, 2): b"\xff"}, {"1": None, "(1, 2)": "\\xff"}),
        ([float("nan"), float("inf"), 1.5], ["nan", "inf", 1.5]),
        (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02T03:04:00+00:00"),
        (Decimal("1.10"), "1.10"),
    ],
)
def test_plain_data_becomes_json(value: object, expected: object) -> None:
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False)


def result(**changes: object) -> Result:
    spend = Spend(Usage(3, 100, 40, 5, 10, 2), 0.5, 0)
    values: dict[str, object] = {
        "answer": {"towns": {"Ulm"}},
        "status": "partial",
        "usage": UsageReport(spend, {"openai:m": spend}, {0: spend}),
        "run_id": RunId("run-1"),
        "tree": None,
        "elapsed_s": 1.23456,
        "sandbox": "process",
        "limit": "calls",
    }
    return Result(**{**values, **changes})  # type: ignore[arg-type]


def test_json_of_a_run_reports_usage() -> None:
    raw = io.BytesIO()
    stdout = io.TextIOWrapper(raw, encoding="utf-8")
    write_json(describe_result(result(), ("openai:m",)), stdout)
    assert raw.getvalue().count(b"\n") == 1
    report = json.loads(raw.getvalue())
    assert report["answer"] == {"towns": ["Ulm"]}
    assert (report["status"], report["limit"], report["error"]) == ("partial", "calls", None)
    assert (report["run_id"], report["elapsed_s"], report["cost_usd"]) == ("run-1", 1.235, 0.5)
    assert report["models"] == ["openai:m"]
    assert report["usage"]["calls"] == 3
    assert report["usage"]["by_depth"]["0"]["cached_tokens"] == 40
    assert report["usage"]["by_model"]["openai:m"]["output_tokens"] == 10


def test_an_unknown_price_is_null() -> None:
    unpriced = result(usage=UsageReport(Spend(Usage(1, 1, 0, 0, 1), 0.0, 1)))
    assert describe_result(unpriced, ())["cost_usd"] is None


def test_failure_has_the_keys_of_results() -> None:
    assert describe_failure("X: why", "failed").keys() == describe_result(result(), ()).keys()
