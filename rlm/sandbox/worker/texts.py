"""Operations that make text out of parts, compiled so that a copy can follow an unknown text through them.

CPython joins the parts of an f-string, and of ``"...".format(...)``, ``"..." % ...`` and ``"...".join(...)``, without asking
any method of theirs. In cells these become calls of builtins with the same meaning: C functions in the REPL itself, so no
frame shows and nothing is slower, and functions that know placeholders in a copy.
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable, Mapping
from typing import Any

from . import placeholders

_PARTS, _JOIN, _FORMAT, _MOD = "__join_parts__", "__join_with__", "__apply_format__", "__apply_mod__"

IN_COPIES: Mapping[str, Callable[..., Any]] = {
    _PARTS: placeholders.join_parts,
    _JOIN: placeholders.join_with,
    _FORMAT: placeholders.apply_format,
    _MOD: placeholders.apply_mod,
}


def install() -> None:
    for name, function in {_PARTS: "".join, _JOIN: str.join, _FORMAT: str.format, _MOD: operator.mod}.items():
        setattr(builtins, name, function)


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
        node.value = self.visit(node.value)  # but not the format's own parts
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and _is_text(function.value):
            if function.attr == "join" and len(node.args) == 1 and not node.keywords:
                return _call(_JOIN, [function.value, *node.args], [], node)
            if function.attr == "format":
                return _call(_FORMAT, [function.value, *node.args], node.keywords, node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.op, ast.Mod) and _is_text(node.left):
            return _call(_MOD, [node.left, node.right], [], node)
        return node


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _call(name: str, arguments: list[ast.expr], keywords: list[ast.keyword], at: ast.expr) -> ast.expr:
    function = ast.copy_location(ast.Name(name, ast.Load()), at)
    return ast.copy_location(ast.Call(function, arguments, keywords), at)
