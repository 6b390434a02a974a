"""The package's modules and their imports, read with ``ast``. A kit for the architecture tests."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {"rlm": ROOT / "rlm", "rlm_evals": ROOT / "evals" / "rlm_evals"}


@cache
def modules() -> dict[str, Path]:
    """Returns the file of each module of the two packages, by dotted name."""
    files = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            files[".".join((package, *parts)).removesuffix(".__init__")] = path
    return files


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of(module: str) -> frozenset[str]:
    """Returns all that a module imports at run time, at any level, as dotted names. Names in a module count as the module."""
    path = modules()[module]
    is_package = path.name == "__init__.py"
    return frozenset(
        _existing(name) for node in run_time_nodes(parse(path)) for name in _names(node, module, is_package=is_package)
    )


def run_time_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes of a module, without the bodies of ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from run_time_nodes(node)


def is_first_party(node: ast.AST) -> bool:
    """Detects an import of this project's own packages."""
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").partition(".")[0] in SOURCES
    return isinstance(node, ast.Import) and any(alias.name.partition(".")[0] in SOURCES for alias in node.names)


def _names(node: ast.AST, module: str, *, is_package: bool) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = module.split(".")
            parent = parts[: len(parts) - node.level + is_package]
            base = ".".join([*parent, base] if base else parent)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _existing(name: str) -> str:
    """Returns the longest part of a dotted name that is a module of ours, or the name itself."""
    part = name
    while part:
        if part in modules():
            return part
        part = part.rpartition(".")[0]
    return name
