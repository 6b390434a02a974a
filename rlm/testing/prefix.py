"""A prefix cache as providers have it, for fakes: which part of a prompt was seen before, in whole blocks.

It knows texts only, nothing of requests or servers.
"""

from __future__ import annotations

from typing import Any

from rlm.core.messages import Message

CHARS_PER_TOKEN = 4
BLOCK_TOKENS = 64
_BLOCK_CHARS = BLOCK_TOKENS * CHARS_PER_TOKEN


def estimate_tokens(text: str) -> int:
    """About four characters a token; at least one."""
    return max(1, len(text) // CHARS_PER_TOKEN)


class PrefixCache:
    """Remembers prompts by the hashes of their prefixes, so that looking one up costs its length, not the cache's."""

    def __init__(self) -> None:
        self._known: set[int] = set()

    def cached_tokens(self, prompt: str) -> int:
        """Tokens at the start of ``prompt``, in whole blocks, that some stored prompt starts with as well."""
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
    """Watches that conversations only ever grow at their end, byte for byte: the first rule of prefix caching.

    One that was summed up is shorter, and begins anew after its system message. A message that was the last may be longer when it
    is sent again: a run that is stopped while its turn is asked asks again with a word at its end.
    """

    def __init__(self) -> None:
        self._sent: dict[str, tuple[Message, ...]] = {}

    def check(self, conversation: str, messages: tuple[Message, ...]) -> None:
        """Raises AssertionError when ``messages`` do not begin with all that was sent under this name before."""
        before = self._sent.get(conversation, ())
        summed_up = len(messages) < len(before) and messages[:1] == before[:1]
        if not (_begins_with(messages, before) or summed_up):
            at = next(i for i, (old, new) in enumerate(zip(before, (*messages, None), strict=False)) if old != new)
            raise AssertionError(
                f"conversation {conversation} was rewritten at message {at}: {before[at].content[:200]!r}"
            )
        self._sent[conversation] = messages


def _begins_with(messages: tuple[Message, ...], before: tuple[Message, ...]) -> bool:
    if messages[: len(before)] == before:
        return True
    if len(messages) != len(before) or messages[:-1] != before[:-1]:
        return False
    new, old = messages[-1], before[-1]
    return new.role == old.role and new.content.startswith(old.content)


class AnthropicCache:
    """Anthropic's rule: written at marked blocks alone, read at the longest known boundary before the last mark."""

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
    """For every content block: the hash of all text up to its end, the characters so far, whether it is marked."""
    found = []
    key = chars = 0
    entries = [{"role": "system", "content": body.get("system") or []}, *body["messages"]]
    for entry in entries:
        content = entry.get("content")
        blocks = content if isinstance(content, list) else [{"text": content}]
        for block in blocks:
            text = str(block.get("text", ""))
            key = hash((key, entry.get("role"), text))
            chars += len(text)
            found.append((key, chars, "cache_control" in block))
    return found
