"""Whether it can pay to run a cell ahead of its answers. Decided from its code, and against it only where nothing is left open.

Here and not on the host, which has no business reading hostile code.

To run ahead a REPL is forked at a call that blocks, which takes some milliseconds of a core. That finds nothing where the cell
asks once and then only looks at the answer, as most cells with one batch do. A wrong "no" would cost the time of a call, a wrong
"yes" those milliseconds: so every call of a function that is not known, a helper of an earlier cell perhaps, means "yes".
"""

from __future__ import annotations

import ast
import builtins

QUERIES = frozenset({"llm_query", "llm_query_batch", "llm_query_batched", "rlm_query", "rlm_query_batched"})
# Called by name these ask nobody. What runs code or functions that it is given may: eval, exec, map, filter.
_HARMLESS = frozenset(dir(builtins)) - {"eval", "exec", "compile", "__import__", "map", "filter"} | {
    "FINAL", "FINAL_VAR", "SUBMIT", "SHOW_VARS", "budget"
}  # fmt: skip
# Methods with the names of those of plain values, and functions of these modules, are taken for what they are called.
_METHODS = frozenset(name for kind in (str, bytes, list, dict, set, tuple) for name in dir(kind))
_MODULES = frozenset({"re", "json", "math", "itertools", "collections", "textwrap", "statistics", "datetime", "random"})
_REPEATED = (
    ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
    ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef,
)  # fmt: skip


def asks_once(code: str) -> bool:
    """Whether a cell makes one blocking call, or one batch, and no other. False where that cannot be told."""
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
