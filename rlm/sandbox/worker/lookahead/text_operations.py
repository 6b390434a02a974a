"""Compiles text operations so that a lookahead copy can follow an unknown text through them.

CPython joins the parts of an f-string, of ``"...".format(...)``, ``"..." % ...`` and ``"...".join(...)`` without calling their
methods. In cells these become calls of builtins with the same meaning. In the REPL itself they are C functions, so they add
no frames and cost nothing. In a copy they are functions that support placeholders.

``pattern.search(llm_query(...))`` must look up its method after its arguments, because a copy can start within them.
"""

from __future__ import annotations

import ast
import builtins
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from . import placeholders

MATCHING = ("search", "match", "fullmatch", "findall", "finditer", "split", "sub", "subn", "scanner")
"""Methods of compiled patterns, which a copy replaces (see ``copies``)."""

_LATE = "__late_method__"
_PARTS, _JOIN, _FORMAT, _MOD = "__join_parts__", "__join_with__", "__apply_format__", "__apply_mod__"

IN_COPIES: Mapping[str, Callable[..., Any]] = {
    _PARTS: placeholders.join_parts,
    _JOIN: placeholders.join_with,
    _FORMAT: placeholders.apply_format,
    _MOD: placeholders.apply_mod,
}


def install() -> None:
    functions = {_PARTS: "".join, _JOIN: str.join, _FORMAT: str.format, _MOD: operator.mod, _LATE: late_method}
    for name, function in functions.items():
        setattr(builtins, name, function)


def late_method(owner: Any, name: str) -> Any:
    """Defers the lookup of a compiled pattern's method to its call. Looks up anything else now."""
    if type(owner) is not re.Pattern:
        return getattr(owner, name)
    return lambda *arguments, **options: getattr(owner, name)(*arguments, **options)  # noqa: PLW0108  looked up late


def name_text_operations(tree: ast.Module) -> ast.Module:
    """The same program, with these operations as calls."""
    changed: ast.Module = _Namer().visit(tree)
    return ast.fix_missing_locations(changed)


class _Namer(ast.NodeTransformer):
    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        self.generic_visit(node)
        if len(node.values) < 2:
            return node
        parts = [
            ast.copy_location(ast.JoinedStr([part]), part) if isinstance(part, ast.FormattedValue) else part
            for part in node.values
        ]
        return _call(_PARTS, [ast.copy_location(ast.Tuple(parts, ast.Load()), node)], [], node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.FormattedValue:
        node.value = self.visit(node.value)  # but not the parts of the format itself
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and _is_text(function.value):
            if function.attr == "join" and len(node.args) == 1 and not node.keywords:
                return _call(_JOIN, [function.value, *node.args], [], node)
            if function.attr == "format":
                return _call(_FORMAT, [function.value, *node.args], node.keywords, node)
        if isinstance(function, ast.Attribute) and function.attr in MATCHING and _holds_call(node):
            node.func = _call(
                _LATE, [function.value, ast.copy_location(ast.Constant(function.attr), node)], [], function
            )
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Mod) and _is_text(node.left):
            return _call(_MOD, [node.left, node.right], [], node)
        return node


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _holds_call(node: ast.Call) -> bool:
    arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
    return any(isinstance(inner, ast.Call) for argument in arguments for inner in ast.walk(argument))


def _call(name: str, arguments: list[ast.expr], keywords: list[ast.keyword], at: ast.expr) -> ast.expr:
    function = ast.copy_location(ast.Name(name, ast.Load()), at)
    return ast.copy_location(ast.Call(function, arguments, keywords), at)
