"""The depth rule, the same for all query functions: a sub-call becomes a leaf call or a child node."""

from __future__ import annotations

from typing import Literal, TypeAlias

from rlm.core.subcalls import ModelQuery, SubcallFailure

SubcallKind: TypeAlias = Literal["child", "leaf"]


def can_call(depth: int, max_depth: int) -> bool:
    """Returns True if a node at this depth can ask other models at all."""
    return depth < max_depth


def makes_children(depth: int, max_depth: int) -> bool:
    """Returns True if sub-calls of a node at this depth become child nodes by default."""
    return depth + 1 < max_depth


def decide_subcall(query: ModelQuery, depth: int, max_depth: int) -> SubcallKind | SubcallFailure:
    """Returns the kind that a sub-call of a node at ``depth`` becomes, or the reason for refusing it."""
    if not can_call(depth, max_depth):
        return SubcallFailure("LLMQueryError", f"no sub-calls at depth {depth}: max_depth is {max_depth}")
    if makes_children(depth, max_depth):
        return "leaf" if query.recursive is False and not query.tools else "child"
    if query.tools:
        return SubcallFailure(
            "LLMQueryError",
            f"tools= needs a child node, at depth {depth + 1} < max_depth, and max_depth is {max_depth}",
        )
    if query.recursive:
        return SubcallFailure(
            "LLMQueryError", f"recursive=True needs depth {depth + 1} < max_depth, and max_depth is {max_depth}"
        )
    return "leaf"
