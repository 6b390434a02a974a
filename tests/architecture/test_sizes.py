"""Sizes of files and functions. An exception needs a reason here, and leaves the list when it is no longer one."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from modules import ROOT, parse

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FOLDERS = ("rlm", "evals", "benchmarks", "examples", "tests")

LONG_FILES = {  # by name, so that a file can move
    "options.py": "every option, declared once with its default, check and help",
    "program.py": "one script for other people's environments, which must be a single file",
    "test_cells.py": "one behaviour of cells after another",
    "test_zygote.py": "one way of ending a process after another",
    "test_records.py": "one kind of interrupted run after another",
    "test_store.py": "one fault of a disk after another",
}
LONG_FUNCTIONS = {
    "cli.py:run": "an argument list: the options of a command",
}


def long_files() -> dict[str, int]:
    """Returns the lines of each file that is too long, by its name."""
    counts = [(path, len((ROOT / path).read_text(encoding="utf-8").splitlines())) for path in files()]
    return {path.rpartition("/")[2]: count for path, count in counts if count > MAX_FILE_LINES}


def long_functions() -> dict[str, int]:
    lengths = {}
    for path in files():
        for node in ast.walk(parse(ROOT / path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    lengths[f"{path.rpartition('/')[2]}:{node.name}"] = length
    return lengths


def files() -> Iterator[str]:
    for folder in FOLDERS:
        yield from (path.relative_to(ROOT).as_posix() for path in sorted((ROOT / folder).rglob("*.py")))


def test_files_fit_in_the_head() -> None:
    assert {path: count for path, count in long_files().items() if path not in LONG_FILES} == {}


def test_functions_fit_on_a_screen() -> None:
    assert {name: count for name, count in long_functions().items() if name not in LONG_FUNCTIONS} == {}


def test_size_exceptions_are_still_needed() -> None:
    stale = (LONG_FILES.keys() - long_files().keys()) | (LONG_FUNCTIONS.keys() - long_functions().keys())
    assert stale == set(), "short now, thank you: remove these entries from tests/architecture/test_sizes.py"
