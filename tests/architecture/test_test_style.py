"""Tests of the engine use virtual time, and no test mocks this project's own code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from modules import ROOT, parse

TIMED_FOLDERS = ("tests/engine", "tests/core", "tests/scheduler", "tests/views")
REAL_SLEEPS = {  # by name, so that a file can move
    "test_holds.py": "a task that is cancelled long before its sleep ends",
    "test_make_call.py": "a task that is cancelled long before its sleep ends",
    "test_turn_streams.py": "a stream that is cancelled long before its sleep ends",
    "test_recorder.py": "the journal's thread writes by the real clock, 10 ms later",
    "test_warming.py": "a model that is slow by the real clock, for 50 ms",
    "test_live.py": "a terminal in a real process, and a thread that draws it",
    "test_taken_up.py": "a cell that is cancelled long before its sleep ends",
    "test_resumed.py": "a cell that is cancelled long before its sleep ends",
    "test_plain.py": "a thread of the view writes lines by the real clock",
}


def calls(path: str) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(parse(ROOT / path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func), node


def test_files(*folders: str) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


test_files.__test__ = False  # type: ignore[attr-defined]


def sleeps(path: str) -> list[str]:
    """Returns the real sleeps of a file. A file that runs on the virtual clock sleeps in no time."""
    source = (ROOT / path).read_text(encoding="utf-8")
    is_virtual = "VirtualClock" in source or "virtual_loop" in source or "testing.clock" in source
    names = [name for name, call in calls(path) if name.endswith(".sleep") and not _is_zero(call)]
    return [name for name in names if name == "time.sleep" or not is_virtual]


def _is_zero(call: ast.Call) -> bool:
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0


def test_engine_tests_sleep_in_virtual_time() -> None:
    real = {path: names for path in test_files(*TIMED_FOLDERS) if (names := sleeps(path))}
    assert {path: names for path, names in real.items() if path.rpartition("/")[2] not in REAL_SLEEPS} == {}


def test_no_test_uses_mocks() -> None:
    users = []
    for path in test_files("tests"):
        for node in ast.walk(parse(ROOT / path)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if any("mock" in name.lower().split(".") for name in [*names, *module.split(".")]):
                users.append(path)
    assert users == []
