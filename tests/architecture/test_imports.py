"""The layers, checked by ``ast`` with the contracts of import-linter, so that pytest alone finds a breach."""

from __future__ import annotations

import ast
import tomllib
from typing import Any

import pytest
from modules import ROOT, imports_of, is_first_party, modules, parse, run_time_nodes

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def reachable(module: str, stops: list[str]) -> set[str]:
    """Returns all that a module imports, directly or through modules outside ``stops``."""
    reached, waiting = set[str](), [module]
    while waiting:
        for name in imports_of(waiting.pop()) - reached:
            reached.add(name)
            if name in modules() and not any(inside(name, stop) for stop in stops):
                waiting.append(name)
    return reached


def layer_breaches(contract: dict[str, Any]) -> list[str]:
    layers = [[name.strip() for name in layer.split("|")] for layer in contract["layers"]]
    level_of = {name: level for level, names in enumerate(layers) for name in names}
    breaches = []
    for module in modules():
        home = next((name for name in level_of if inside(module, name)), None)
        if home is None:
            continue
        for imported in reachable(module, list(level_of)):
            other = next((name for name in level_of if inside(imported, name)), home)
            if other != home and level_of[other] <= level_of[home]:
                breaches.append(f"{module} imports {imported}")
    return breaches


def forbidden_breaches(contract: dict[str, Any]) -> list[str]:
    forbidden = contract["forbidden_modules"]
    return [
        f"{module} imports {imported}"
        for module in modules()
        if any(inside(module, source) for source in contract["source_modules"])
        for imported in reachable(module, [])
        if any(inside(imported, name) for name in forbidden)
    ]


@pytest.mark.parametrize("contract", CONTRACTS, ids=[contract["name"] for contract in CONTRACTS])
def test_import_contract_holds(contract: dict[str, Any]) -> None:
    check = {"layers": layer_breaches, "forbidden": forbidden_breaches}[contract["type"]]
    assert check(contract) == []


def test_core_forbids_all_input_and_output() -> None:
    forbidden = {
        name for contract in CONTRACTS if contract["type"] == "forbidden" for name in contract["forbidden_modules"]
    }
    assert forbidden >= {
        "asyncio",
        "os",
        "socket",
        "time",
        "random",
        "logging",
        "pathlib",
        "threading",
        "subprocess",
        "io",
    }


def test_worker_imports_only_itself() -> None:
    worker = "rlm.sandbox.worker"
    names = {name: imports_of(name) for name in modules() if inside(name, worker)}
    breaches = [
        (name, other)
        for name, others in names.items()
        for other in others
        if inside(other, "rlm") and not inside(other, worker)
    ]
    assert names
    assert breaches == []


def test_functions_hide_no_first_party_imports() -> None:
    hidden = []
    for name, path in modules().items():
        for function in run_time_nodes(parse(path)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                hidden += [f"{name}.{function.name}" for node in ast.walk(function) if is_first_party(node)]
    assert hidden == []
