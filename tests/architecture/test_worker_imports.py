"""The worker runs beside hostile code in a bare interpreter, so it imports the standard library and itself only."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rlm

PACKAGE = Path(rlm.__file__).parent
WORKER = PACKAGE / "sandbox" / "worker"
MODULES = sorted(WORKER.rglob("*.py"))


def imported_names(path: Path) -> Iterator[str]:
    """Absolute names of the modules that a file imports; relative names are resolved against the worker's folder."""
    package = ("worker", *path.relative_to(WORKER).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            levels_up = node.level - 1
            assert levels_up < len(package), f"{path}:{node.lineno}: a relative import leaves the worker"
            base = ".".join(package[: len(package) - levels_up]) if node.level else ""
            yield ".".join(filter(None, (base, node.module)))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(WORKER)))
def test_worker_imports_standard_library_only(path: Path) -> None:
    for name in imported_names(path):
        top = name.partition(".")[0]
        assert top == "worker" or top in sys.stdlib_module_names or top == "__future__", f"{path.name} imports {name}"


def test_check_reads_whole_worker() -> None:
    found = {name for path in MODULES for name in imported_names(path)}
    assert len(MODULES) > 30
    assert {"worker.wire.frames", "json", "ast"} <= found
