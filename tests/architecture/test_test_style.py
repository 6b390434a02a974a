"""Tests of the engine use virtual time, and no test replaces this project's own code."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from modules import ROOT, SOURCES, parse

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


def replaced_code(tree: ast.Module) -> list[str]:
    """Returns the names of our own code that a test replaces: ``setattr`` and assignments to modules and classes.

    A constant can be replaced: a limit that is lowered for a test is configuration, not code.
    """
    ours = {name for node in ast.walk(tree) for name in _imported_names(node)}
    targets = [target for node in ast.walk(tree) for target in _assigned_attributes(node)]
    return [
        target for target in targets if target.partition(".")[0] in ours | set(SOURCES) and not _is_constant(target)
    ]


def _imported_names(node: ast.AST) -> Iterator[str]:
    """Yields the names that an import of our own code binds."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in SOURCES:
        yield from (alias.asname or alias.name for alias in node.names)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.partition(".")[0] in SOURCES:
                yield alias.asname or alias.name.partition(".")[0]


def _assigned_attributes(node: ast.AST) -> Iterator[str]:
    """Yields the dotted names that a statement or call assigns to."""
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
        assigned = node.targets if isinstance(node, ast.Assign | ast.Delete) else [node.target]
        for target in assigned:
            items = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            yield from (ast.unparse(item) for item in items if isinstance(item, ast.Attribute))
    elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {"setattr", "delattr", "setitem"}:
        named = [argument.value for argument in node.args[:2] if isinstance(argument, ast.Constant)]
        if node.args and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)
        elif node.args:
            yield ".".join([ast.unparse(node.args[0]), *map(str, named)])


def _is_constant(target: str) -> bool:
    return target.rpartition(".")[2].isupper()


def test_no_test_replaces_our_own_code() -> None:
    found = {path: names for path in test_files("tests") if (names := replaced_code(parse(ROOT / path)))}
    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "monkeypatch.setattr('rlm.models.http.Connector', Fake)",
        "from rlm.models import http\nmonkeypatch.setattr(http, 'Connector', Fake)",
        "from rlm.models import http\nsetattr(http, name, Fake)",
        "from rlm.models import http\nhttp.Connector = Fake",
        "import rlm.models.http as transport\ntransport.Connector, other = Fake, 1",
        "import rlm\nrlm.models.http.HttpEndpoint.post = fake",
        "from rlm.models.http import HttpEndpoint\nHttpEndpoint.post = fake",
        "from rlm.models.http import HttpEndpoint\ndel HttpEndpoint.post",
        "from rlm_evals import arms\nmonkeypatch.delattr(arms, 'run')",
    ],
)
def test_replaced_code_is_found(code: str) -> None:
    assert replaced_code(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "from rlm.models import http\nmonkeypatch.setattr(http, 'MAX_BYTES', 10)",
        "monkeypatch.setattr('sys.stdin', other)",
        "from rlm.models.http import HttpEndpoint\nendpoint = HttpEndpoint()\nendpoint.closed = True",
    ],
)
def test_constants_and_objects_can_be_set(code: str) -> None:
    assert replaced_code(ast.parse(code)) == []
