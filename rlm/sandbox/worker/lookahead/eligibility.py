"""Decides from a cell's code if it can gain from lookahead.

The worker decides this, because the host must not parse hostile code.

Lookahead forks the REPL at a blocking call, which takes some milliseconds of a core. It finds nothing if the cell makes one
call and then only uses the answer, as most cells with one batch do. A wrong "no" costs the time of a call, a wrong "yes" only
those milliseconds. So a call of any unknown function, such as a helper of an earlier cell, means "yes".
"""

from __future__ import annotations

import ast
import builtins

QUERIES = frozenset({"llm_query", "llm_query_batch", "llm_query_batched", "rlm_query", "rlm_query_batched"})
# Builtins that make no sub-calls. Those that run code or functions passed to them can: eval, exec, map, filter.
_HARMLESS = frozenset(dir(builtins)) - {"eval", "exec", "compile", "__import__", "map", "filter"} | {
    "FINAL", "FINAL_VAR", "SUBMIT", "SHOW_VARS", "budget"
}  # fmt: skip
# Methods named as those of plain values, and functions of these modules, are assumed to be those.
_METHODS = frozenset(name for kind in (str, bytes, list, dict, set, tuple) for name in dir(kind))
_MODULES = frozenset({"re", "json", "math", "itertools", "collections", "textwrap", "statistics", "datetime", "random"})
_REPEATED = (
    ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
    ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef,
)  # fmt: skip


def asks_once(code: str) -> bool:
    """True if a cell makes one blocking call, or one batch, and no other. False if that is uncertain."""
    if sum(map(code.count, ("llm_query", "rlm_query"))) != 1:
        return False
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    asked = 0
    for node in ast.walk(tree):
        if isinstance(node, _REPEATED) and any(_is_query(inner) for inner in ast.walk(node)):
            return False
        if isinstance(node, ast.Call):
            asked += _is_query(node.func)
            if not (_is_query(node.func) or _is_harmless(node.func)):
                return False
    return asked == 1


def _is_query(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in QUERIES


def _is_harmless(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):
        return called.id in _HARMLESS
    if not isinstance(called, ast.Attribute):
        return False
    if isinstance(called.value, ast.Name) and called.value.id in _MODULES:
        return True
    return called.attr in _METHODS
