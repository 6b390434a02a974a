"""The key of a sub-call: the hash of everything that it asks. A cell that runs again finds its recorded sub-calls by key."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

import orjson

from rlm.core.divergence import without_repr_addresses
from rlm.core.plain_repr import plain_repr
from rlm.core.subcalls import BudgetQuery, ModelQuery, Subcall, ToolCall


def subcall_key(subcall: Subcall) -> str:
    """The key of a sub-call.

    It has two parts if the sub-call names addresses of objects, which differ between processes: a hash without and one with them.
    """
    if isinstance(subcall, BudgetQuery):
        return "budget"
    if isinstance(subcall, ToolCall):
        return _tool_key(subcall)
    exact = _hash(subcall)
    prompt, context = without_repr_addresses(subcall.prompt), subcall.context
    if isinstance(context, str):
        context = without_repr_addresses(context)
    if prompt is subcall.prompt and context is subcall.context:
        return exact
    return f"{_hash(replace(subcall, prompt=prompt, context=context))}.{exact}"


def key_without_addresses(key: str) -> str:
    """The part of a key that is the same in every process."""
    return key.partition(".")[0]


def _tool_key(call: ToolCall) -> str:
    arguments = _as_bytes([call.args, call.kwargs])
    exact = _hash_tool(call.tool, arguments)
    text = arguments.decode("utf-8", "surrogatepass")
    plain = without_repr_addresses(text)
    if plain is text:
        return exact
    return f"{_hash_tool(call.tool, plain.encode('utf-8', 'surrogatepass'))}.{exact}"


def _hash_tool(tool: str, arguments: bytes) -> str:
    # Another personalisation: no prompt has the key of a tool call.
    digest = blake2b(tool.encode("utf-8", "surrogatepass"), digest_size=16, person=b"tool call")
    digest.update(b"\0" + arguments)
    return digest.hexdigest()


def _hash(subcall: ModelQuery) -> str:
    digest = blake2b(subcall.prompt.encode("utf-8", "surrogatepass"), digest_size=16)
    if subcall.has_context:
        digest.update(b"\0context\0" + _as_bytes(subcall.context))
    if subcall.model or subcall.schema is not None or subcall.recursive is not None:
        digest.update(b"\0options\0" + _as_bytes([subcall.model, subcall.schema, subcall.recursive]))
    if subcall.tools:
        digest.update(b"\0tools\0" + _as_bytes(sorted(subcall.tools)))
    if subcall.images:
        digest.update(b"\0images\0" + "\0".join(subcall.images).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _as_bytes(value: object) -> bytes:
    if not isinstance(value, str):
        try:
            return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS)
        except (TypeError, ValueError):  # integers beyond 64 bits, lone surrogates
            value = plain_repr(value)
    return value.encode("utf-8", "surrogatepass")


def _plain(value: object) -> object:
    """Sorts sets, whose order differs between processes."""
    if isinstance(value, set | frozenset):
        return sorted(map(plain_repr, value))
    if isinstance(value, tuple):
        return list(value)
    return plain_repr(value)
