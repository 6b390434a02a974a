"""Prefix caches for fakes, as providers have them: the part of a prompt that was seen before, in whole blocks.

They know texts only, nothing of requests or servers.
"""

from __future__ import annotations

from typing import Any

from rlm.core.messages import Message

CHARS_PER_TOKEN = 4
BLOCK_TOKENS = 64
_BLOCK_CHARS = BLOCK_TOKENS * CHARS_PER_TOKEN


def estimate_tokens(text: str) -> int:
    """Four characters a token, and at least one token."""
    return max(1, len(text) // CHARS_PER_TOKEN)


class PrefixCache:
    """Prompts by the hashes of their prefixes, so that the cost of a lookup depends on the prompt, not on the cache."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def cached_tokens(self, prompt: str) -> int:
        """Tokens of the longest prefix, in whole blocks, that ``prompt`` shares with a stored prompt."""
        blocks = 0
        for key in _prefix_keys(prompt):
            if key not in self._known:
                break
            blocks += 1
        return blocks * BLOCK_TOKENS

    def store(self, prompt: str) -> None:
        self._known.update(_prefix_keys(prompt))


def _prefix_keys(prompt: str) -> list[int]:
    keys = []
    key = 0
    for start in range(0, len(prompt) - _BLOCK_CHARS + 1, _BLOCK_CHARS):
        key = hash((key, prompt[start : start + _BLOCK_CHARS]))
        keys.append(key)
    return keys


class AppendOnly:
    """Check that conversations only grow at their end, byte for byte: the first rule of prefix caching.

    A compacted conversation is shorter, and differs after its system message. A last message can be longer when it is sent again:
    a stopped run repeats its turn with a notice at the end.
    """

    def __init__(self) -> None:
        self._sent: dict[str, tuple[Message, ...]] = {}

    def check(self, conversation: str, messages: tuple[Message, ...]) -> None:
        """Raises AssertionError if ``messages`` do not begin with all messages sent under this name before."""
        before = self._sent.get(conversation, ())
        compacted = len(messages) < len(before) and messages[:1] == before[:1]
        if not (_begins_with(messages, before) or compacted):
            at = next(i for i, (old, new) in enumerate(zip(before, (*messages, None), strict=False)) if old != new)
            raise AssertionError(
                f"conversation {conversation} was rewritten at message {at}: {before[at].text[:200]!r}"
            )
        self._sent[conversation] = messages


def _begins_with(messages: tuple[Message, ...], before: tuple[Message, ...]) -> bool:
    if messages[: len(before)] == before:
        return True
    if len(messages) != len(before) or messages[:-1] != before[:-1]:
        return False
    new, old = messages[-1], before[-1]
    return new.role == old.role and new.text.startswith(old.text) and new.images == old.images


class AnthropicCache:
    """Anthropic's rule: written only at breakpoints, read at the longest known block boundary before the last breakpoint."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def read_and_written(self, body: dict[str, Any]) -> tuple[int, int]:
        """Tokens that this body reads from the cache and writes to it."""
        read = last_mark = 0
        for key, chars, marked in _boundaries(body):
            if key in self._known:
                read = chars
            if marked:
                last_mark = chars
        read = min(read, last_mark)
        return read // CHARS_PER_TOKEN, (last_mark - read) // CHARS_PER_TOKEN

    def store(self, body: dict[str, Any]) -> None:
        self._known.update(key for key, _, marked in _boundaries(body) if marked)


def _boundaries(body: dict[str, Any]) -> list[tuple[int, int, bool]]:
    """Each content block as the hash of all text up to its end, the characters so far, and True for a breakpoint."""
    boundaries = []
    key = chars = 0
    entries = [{"role": "system", "content": body.get("system") or []}, *body["messages"]]
    for entry in entries:
        content = entry.get("content")
        blocks = content if isinstance(content, list) else [{"text": content}]
        for block in blocks:
            text = str(block.get("text") or block.get("source", ""))
            key = hash((key, entry.get("role"), text))
            chars += len(text)
            boundaries.append((key, chars, "cache_control" in block))
    return boundaries
