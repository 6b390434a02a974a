"""Short programs for scripted models: what a node's model writes, by turn, and what plain calls answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rlm.testing.server import ChatCall, ScriptedReply

Answer = str | ScriptedReply


def cell(code: str) -> str:
    """A reply that holds one cell."""
    return f"```repl\n{code}\n```"


def script(
    turns: Sequence[Answer], leaf: Callable[[ChatCall], Answer] | Answer = "leaf"
) -> Callable[[ChatCall], Answer]:
    """Every node's model writes ``turns`` in order (the last for all further ones); plain calls get ``leaf``."""

    def answer(call: ChatCall) -> Answer:
        if call.is_root:
            return turns[min(call.turn, len(turns)) - 1]
        return leaf(call) if callable(leaf) else leaf

    return answer
