"""Bounds on the tokens of a prompt, without its tokeniser.

The upper bound is what budgets rest on: no tokeniser in use makes more tokens of a text than it has UTF-8 bytes, plus what a
chat template puts around messages. For English that is four times too much, so whatever a provider has already counted is
taken from its report instead: a conversation only grows at its end, and only its new messages are bounded by bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from rlm.core.messages import JsonSchema, Message

# Templates put 3 to 10 tokens around a message; some add a system text of their own (Qwen 20, gpt-oss 80).
MESSAGE_TOKENS = 16
REQUEST_TOKENS = 128
# Providers and adapters say a schema in other words: closed, wrapped, or as an instruction around it.
SCHEMA_FACTOR = 3
SCHEMA_TOKENS = 512
# Runs of spaces or of one letter aside, no text that people write has more bytes than this to a token on average.
MOST_BYTES_A_TOKEN = 6


def text_bytes(text: str) -> int:
    """The length in UTF-8, without a copy for the usual case."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def most_tokens(messages: Sequence[Message], schema: JsonSchema | None = None) -> int:
    """More tokens than this no provider counts for these messages."""
    total = REQUEST_TOKENS + sum(text_bytes(message.content) + MESSAGE_TOKENS for message in messages)
    if schema is not None:
        total += SCHEMA_FACTOR * len(json.dumps(schema, default=str)) + SCHEMA_TOKENS
    return total


def least_tokens(messages: Sequence[Message]) -> int:
    """Fewer tokens than this no text that people write has: what is larger than a window by this count does not fit it."""
    return sum(text_bytes(message.content) for message in messages) // MOST_BYTES_A_TOKEN
