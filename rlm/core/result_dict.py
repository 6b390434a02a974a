"""A result as JSON data, the form of ``Result.to_dict`` and of ``rlm ask --json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.evidence import Citation, Coverage
from rlm.core.messages import JsonValue
from rlm.core.plain import to_json
from rlm.core.redaction import SECRETS
from rlm.core.tools import cut_end
from rlm.core.usage import Spend

if TYPE_CHECKING:
    from rlm.core.result import Result


MAX_TOOL_CALLS = 500  # in the JSON object of a result; ``rlm export`` has all of them, whole
MAX_TOOL_CHARS = 500


def describe_result(result: Result) -> dict[str, JsonValue]:
    """The JSON object of a result."""
    return {
        "answer": to_json(result.answer if result.data is None else result.data),
        "status": result.status,
        "limit": result.limit,
        "error": result.error,
        "run_id": result.run_id,
        "sandbox": result.sandbox,
        "citations": [describe_citation(citation) for citation in result.citations],
        "coverage": None if result.coverage is None else describe_coverage(result.coverage),
        "elapsed_s": round(result.elapsed_s, 3),
        "cost_usd": result.cost_usd,
        "usage": {
            **describe_spend(result.usage.total),
            "tool_calls": result.usage.tool_calls,
            "by_model": {model: describe_spend(spend) for model, spend in result.usage.by_model.items()},
            "by_depth": {str(depth): describe_spend(spend) for depth, spend in result.usage.by_depth.items()},
        },
        "used": {
            limit: {"used": use.used, "allowed": use.allowed, "left": use.left, "assumed": use.assumed}
            for limit, use in result.used.items()
        },
        "unfinished": {
            "refused_calls": result.unfinished.refused_calls,
            "cancelled_calls": result.unfinished.cancelled_calls,
            "nodes": list(result.unfinished.nodes),
            "cells": list(result.unfinished.cells),
            "tools": [_short(tool) for tool in result.unfinished.tools],
        },
        "tool_calls": _describe_tools(result),
    }


def _describe_tools(result: Result) -> list[JsonValue]:
    """The first tool calls of a run, with cut arguments and results."""
    tools = [tool for node in (result.tree.walk() if result.tree else []) for tool in node.tools if not tool.superseded]
    return [
        {
            "id": tool.id,
            "tool": tool.tool,
            "call": _short(tool.shown),
            "result": None if tool.result is None else _short(tool.result),
            "error": None if tool.error is None else _short(tool.error),
            "interrupted": tool.interrupted,
        }
        for tool in tools[:MAX_TOOL_CALLS]
    ]


def _short(text: str) -> str:
    return SECRETS.redact_text(cut_end(text, MAX_TOOL_CHARS))


def describe_citation(citation: Citation) -> dict[str, JsonValue]:
    """The JSON object of a citation."""
    return {
        "path": citation.path,
        "place": citation.place,
        "quote": citation.quote,
        "start": citation.start,
        "end": citation.end,
        "verified": citation.verified,
        "exact": citation.exact,
    }


def describe_coverage(coverage: Coverage) -> dict[str, JsonValue]:
    """The coverage of each document, with the ranges that no model was shown."""
    return {
        "share": round(coverage.share, 6),
        "unopened": list(coverage.unopened),
        "documents": [
            {
                "path": item.path,
                "chars": item.chars,
                "read_chars": item.read_chars,
                "unread": [[start, end] for start, end in item.unread()],
            }
            for item in coverage.documents
        ],
    }


def describe_spend(spend: Spend) -> dict[str, JsonValue]:
    """The JSON object of tokens and dollars."""
    usage = spend.usage
    return {
        "calls": usage.calls,
        "requests": spend.requests,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_usd": spend.cost_usd,
        "unpriced_calls": spend.unpriced_calls,
    }
