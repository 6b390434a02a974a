"""Compatibility names of the prompts in ``rlm.prompts``."""

from __future__ import annotations

from rlm.prompts import (
    DEFAULT_QUESTION,
    FAMILIES,
    PromptFacts,
    PromptFamily,
    choose_family,
    default_family,
    first_message,
    small_family,
)

DEFAULT_QUERY = DEFAULT_QUESTION

REPL_SYSTEM_PROMPT = default_family(
    PromptFacts(
        depth=0,
        max_depth=1,
        can_call=True,
        sub_calls_are_nodes=False,
        sub_prompt_chars=300_000,
        observation_chars=16_000,
    )
)
"""The system message of a root at ``max_depth=1``."""


def build_system_prompt(facts: PromptFacts | None = None, *, model: str = "") -> list[dict[str, str]]:
    """The first message of a conversation in the format of chat APIs, for a model by its name."""
    text = choose_family(model)(facts) if facts else REPL_SYSTEM_PROMPT
    return [{"role": "system", "content": text}]


__all__ = [
    "DEFAULT_QUERY",
    "FAMILIES",
    "REPL_SYSTEM_PROMPT",
    "PromptFacts",
    "PromptFamily",
    "build_system_prompt",
    "choose_family",
    "default_family",
    "first_message",
    "small_family",
]
