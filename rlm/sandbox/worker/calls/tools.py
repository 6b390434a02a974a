"""Tools: functions of the user's program, which the host executes. Here they are proxies with the same signature and help."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any

from ..wire.frames import decode_text
from ..wire.pieces import MAX_TOOL_BYTES, dump_value
from ..wire.values import NotPlain, TooLarge
from .open_calls import Group, Job
from .queries import Queries

_KINDS = {
    "positional": inspect.Parameter.POSITIONAL_ONLY,
    "any": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "rest": inspect.Parameter.VAR_POSITIONAL,
    "keyword": inspect.Parameter.KEYWORD_ONLY,
    "named": inspect.Parameter.VAR_KEYWORD,
}


class ToolFeed:
    """A Feed of one tool call."""

    def __init__(self, tool: str, args: Sequence[object], kwargs: dict[str, object]) -> None:
        self._tool = tool
        try:
            payload = dump_value({"args": list(args), "kwargs": kwargs}, MAX_TOOL_BYTES, strict=True)
        except NotPlain as error:
            raise TypeError(
                f"{tool}() takes plain data only, and {error}: pass text, numbers, lists or dicts"
            ) from None
        except TooLarge:
            raise ValueError(
                f"the arguments of {tool}() must be at most {MAX_TOOL_BYTES >> 20} MB: pass less"
            ) from None
        self._payload = payload

    def take(self, group: Group, _limit: int, _options: bytes) -> Job:
        group.fed = True
        return Job(group, 0, [b""], contexts=(self._payload,), kind="tool", tool=self._tool)


class _Source:
    """Source text in place of a value: a signature shows it as it is."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def make_tools(described: bytes | bytearray, queries: Queries) -> dict[str, object]:
    """Two functions for each tool that the host describes: ``name``, and its awaitable form ``name_async``."""
    functions: dict[str, object] = {}
    for name, parameters, returns, doc in json.loads(decode_text(described)):
        signature = _signature(parameters, returns)
        functions[name] = _named(_blocking(name, signature, queries), name, signature, doc)
        awaitable = _named(
            _awaitable(name, signature, queries), f"{name}_async", signature, f"Awaitable form of {name}."
        )
        functions[f"{name}_async"] = awaitable
    return functions


def _blocking(name: str, signature: inspect.Signature, queries: Queries) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        signature.bind(*args, **kwargs)  # a TypeError as of any function, before anything is sent
        return queries.call_tool(name, ToolFeed(name, args, kwargs))

    return call


def _awaitable(name: str, signature: inspect.Signature, queries: Queries) -> Callable[..., object]:
    async def call(*args: object, **kwargs: object) -> object:
        signature.bind(*args, **kwargs)
        return await queries.call_tool_async(name, ToolFeed(name, args, kwargs))

    return call


def _named(function: Any, name: str, signature: inspect.Signature, doc: str) -> object:
    function.__name__ = function.__qualname__ = name
    function.__module__ = "__main__"
    function.__doc__ = doc or None
    function.__signature__ = signature
    return function


def _signature(parameters: Sequence[Sequence[Any]], returns: str) -> inspect.Signature:
    described = [
        inspect.Parameter(
            name,
            _KINDS[kind],
            default=inspect.Parameter.empty if default is None else _Source(default),
            annotation=_Source(annotation) if annotation else inspect.Parameter.empty,
        )
        for name, kind, annotation, default in parameters
    ]
    return inspect.Signature(described, return_annotation=_Source(returns) if returns else inspect.Signature.empty)
