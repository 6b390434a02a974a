"""Scripts for models: roots that write cells in turn, and leaves that echo their prompts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rlm.core.errors import ModelError
from rlm.core.messages import Request

Answer = str | ModelError | Awaitable[str]


def block(code: str) -> str:
    return f"```repl\n{code}\n```"


def turn_of(request: Request) -> int:
    """From 1."""
    return sum(message.role == "assistant" for message in request.messages) + 1


def cells(*codes: str, leaf: Callable[[Request], Answer] | None = None) -> Callable[[Request], Answer]:
    """A root that writes these cells in turn, and then repeats the last one."""

    def script(request: Request) -> Answer:
        if request.role == "leaf":
            return leaf(request) if leaf else f"<{request.messages[-1].text[:40]}>"
        return block(codes[min(turn_of(request), len(codes)) - 1])

    return script
