"""Bounds on the tokens of a prompt, without its tokeniser.

Budgets rest on the upper bound. No tokeniser in use produces more tokens than a text has UTF-8 bytes, and a chat template adds a
few around each message. For English that is four times too much, so the provider's own counts replace it as they arrive. A
conversation only grows at its end, so only its new messages are bounded by bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from rlm.core.messages import JsonSchema, Message

# Templates add 3 to 10 tokens around a message; some add a system text of their own (Qwen 20, gpt-oss 80).
MESSAGE_TOKENS = 16
REQUEST_TOKENS = 128
# Providers and adapters rephrase a schema: closed, wrapped, or as an instruction around it.
SCHEMA_FACTOR = 3
SCHEMA_TOKENS = 512
# Except for runs of spaces or of one letter, human text averages fewer bytes per token than this.
MAX_BYTES_PER_TOKEN = 6
# The largest published count of one image: 36,835 for gpt-4o-mini at high detail. Others count 5,000 or less.
MAX_IMAGE_TOKENS = 40_000


def text_bytes(text: str) -> int:
    """The length in UTF-8, without a copy in the usual case."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def most_tokens(messages: Sequence[Message], schema: JsonSchema | None = None) -> int:
    """Upper bound on the tokens that any provider counts for these messages."""
    total = REQUEST_TOKENS + sum(text_bytes(message.text) + MESSAGE_TOKENS for message in messages)
    total += MAX_IMAGE_TOKENS * sum(len(message.images) for message in messages if not isinstance(message.content, str))
    if schema is not None:
        total += SCHEMA_FACTOR * len(json.dumps(schema, default=str)) + SCHEMA_TOKENS
    return total


def least_tokens(messages: Sequence[Message]) -> int:
    """Lower bound for human text: a prompt larger than a window by this count does not fit it. Images count nothing."""
    return sum(text_bytes(message.text) for message in messages) // MAX_BYTES_PER_TOKEN
