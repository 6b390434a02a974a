"""The public names load, for programs and for type checkers. ``tests/api/test_public_names.py`` lists those that stay."""

from __future__ import annotations

import ast
import importlib

import pytest
from modules import ROOT

import rlm
import rlm.errors


def test_type_checkers_see_all_public_names() -> None:
    """Names load lazily, so ``if TYPE_CHECKING`` lists them a second time for type checkers and editors."""
    tree = ast.parse((ROOT / "rlm" / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module != "importlib"]
    names = {alias.asname or alias.name for node in imports for alias in node.names} - {"annotations", "TYPE_CHECKING"}
    names = (names - {"*"}) | set(rlm.errors.__all__)
    submodules = {name for name in rlm.__all__ if (ROOT / "rlm" / f"{name}.py").exists()}
    assert names | submodules == (set(rlm.__all__) - {"__version__"}) | (names & submodules)


def test_all_has_no_duplicates() -> None:
    assert len(rlm.__all__) == len(set(rlm.__all__))


@pytest.mark.parametrize("name", sorted(rlm.__all__))
def test_public_name_loads(name: str) -> None:
    assert getattr(rlm, name) is not None


@pytest.mark.parametrize("module", ["rlm.rlm_repl", "rlm.repl", "rlm.utils.prompts"])
def test_older_module_name_imports(module: str) -> None:
    assert importlib.import_module(module).__name__ == module
