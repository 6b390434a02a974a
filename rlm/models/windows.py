"""Context windows by model family, as of October 2026, from the providers' model pages and the data of genai-prices.

A figure that is too small costs a few more calls; one that is too large makes calls fail. So an unknown model gets a size that
nearly every hosted model has.
"""

from __future__ import annotations

import re

DEFAULT_WINDOW_TOKENS = 128_000
LOCAL_WINDOW_TOKENS = 8_192
"""The default of local servers, except Ollama's 4,096. Set ``window_tokens`` if the server was started with another."""

# The first match counts: longer names precede shorter ones.
_FAMILIES: tuple[tuple[str, int], ...] = (
    (r"gpt-3\.5", 16_385),
    (r"gpt-4-32k", 32_000),
    (r"gpt-4-(turbo|vision|1106|0125)", 128_000),
    (r"gpt-4(-\d{4})?$", 8_192),
    (r"gpt-4\.1", 1_000_000),
    (r"gpt-4", 128_000),
    (r"gpt-5\.3(?!-codex)|gpt-5.*-chat", 128_000),
    (r"gpt-5\.4-(mini|nano)", 400_000),
    (r"gpt-5\.[4-9]|gpt-[6-9]", 1_000_000),
    (r"gpt-5", 400_000),
    (r"gpt-oss", 131_072),
    (r"o1-(mini|preview)", 128_000),
    (r"o[134](-|$)", 200_000),
    (r"claude-(opus|sonnet)-4-6|claude-opus-4-[78]", 1_000_000),
    (r"claude-[a-z]+-([5-9]|\d\d)(-|$)", 1_000_000),
    (r"claude", 200_000),
    (r"gemini", 1_000_000),
    (r"grok-4-fast|grok-4-1-fast", 2_000_000),
    (r"grok-4", 256_000),
    (r"deepseek-(chat|reasoner)", 64_000),
    (r"llama-?3\.[1-3]", 128_000),
    (r"llama-?3", 8_192),
)


def find_window(model_id: str, *, local: bool = False) -> int:
    """The context window of a model by its id without provider, in tokens. That of a ``local`` server is usually small."""
    if local:
        return LOCAL_WINDOW_TOKENS
    name = model_id.lower().rpartition("/")[2].removeprefix("ft:")
    for pattern, tokens in _FAMILIES:
        if re.match(pattern, name):  # compiled on the way, as far as needed
            return tokens
    return DEFAULT_WINDOW_TOKENS
