"""The depth rule: what a sub-call becomes. The same for all query functions."""

from __future__ import annotations

from typing import Literal, TypeAlias

from rlm.core.subcalls import ModelQuery, SubcallFailure

SubcallKind: TypeAlias = Literal["child", "leaf"]


def can_call(depth: int, max_depth: int) -> bool:
    """Whether a node at this depth may ask other models at all."""
    return depth < max_depth


def makes_children(depth: int, max_depth: int) -> bool:
    """Whether a sub-call of a node at this depth becomes a node of its own, unless it says otherwise."""
    return depth + 1 < max_depth


def decide_subcall(query: ModelQuery, depth: int, max_depth: int) -> SubcallKind | SubcallFailure:
    """What a sub-call of a node at ``depth`` becomes, or why it may not be made."""
    if not can_call(depth, max_depth):
        return SubcallFailure("LLMQueryError", f"no sub-calls at depth {depth}: max_depth is {max_depth}")
    if makes_children(depth, max_depth):
        return "leaf" if query.recursive is False else "child"
    if query.recursive:
        return SubcallFailure(
            "LLMQueryError", f"recursive=True needs depth {depth + 1} < max_depth, and max_depth is {max_depth}"
        )
    return "leaf"
