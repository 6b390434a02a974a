"""Compaction: when a conversation nears its model's window, a summary replaces its older part.

The REPL keeps its variables, so the summary names them; that is what lets the model continue. A compaction rewrites the prefix
that providers cache, so it happens late and frees much: from COMPACT_AT of the window down to COMPACT_TO.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlm.core.bounds import text_bytes
from rlm.core.messages import Message
from rlm.core.observations import cut_middle
from rlm.prompts import summary_message

COMPACT_AT = 0.75
COMPACT_TO = 0.4
SUMMARY_SHARE = 0.1  # of the window: the maximum size of the summary
BYTES_PER_TOKEN = 3  # a safe estimate for prose and code; it decides when to compact, never what is billed
IMAGE_TOKENS = 1_500  # likewise: typical of a screenshot
HEAD = 2  # the system message and the question are always retained


def estimate_tokens(messages: Sequence[Message]) -> int:
    return sum(
        text_bytes(message.text) // BYTES_PER_TOKEN + 8 + IMAGE_TOKENS * len(message.images) for message in messages
    )


def is_near_window(tokens: int, window_tokens: int) -> bool:
    return window_tokens > 0 and tokens > window_tokens * COMPACT_AT


def find_cut(messages: Sequence[Message], window_tokens: int) -> int | None:
    """The start of the retained tail: a model's reply, as early as COMPACT_TO allows, or ``len(messages)`` if none fits.

    Returns None if leaving out everything between head and tail would free nothing.
    """
    room = window_tokens * (COMPACT_TO - SUMMARY_SHARE) - estimate_tokens(messages[:HEAD])
    cut = len(messages)
    size = 0
    for index in range(len(messages) - 1, HEAD - 1, -1):
        size += estimate_tokens(messages[index : index + 1])
        if size > room:
            break
        if messages[index].role == "assistant":
            cut = index
    return cut if cut > HEAD else None


def to_summarise(messages: Sequence[Message], cut: int, request: str) -> tuple[Message, ...]:
    """The prompt for a summary: the older part unchanged, so that it is a prefix cache hit, then ``request``."""
    older = list(messages[:cut])
    if older[-1].role == "user":
        older[-1] = older[-1].append(f"\n\n{request}")
    else:
        older.append(Message("user", request))
    return tuple(older)


def compact(
    messages: Sequence[Message],
    cut: int,
    summary: str | None,
    variables: str,
    window_tokens: int,
    *,
    question: str = "",
) -> tuple[Message, ...]:
    """The conversation with its older part replaced. Without a ``summary`` (None), only the variables are named.

    ``question`` is repeated after the summary, if it is not the one at the start.
    """
    limit = int(window_tokens * SUMMARY_SHARE * BYTES_PER_TOKEN)
    replacement = summary_message(None if summary is None else cut_middle(summary, limit), variables)
    if question:
        replacement = f"{replacement}\n\nThe question now: {question}"
    system, first = messages[:HEAD]
    tail = tuple(messages[cut:])
    if not tail and messages[-1].role == "user" and len(messages) > HEAD:
        newest = messages[-1]  # output that the model has not seen yet
        first = first.append(f"\n\n{replacement}\n\n{cut_middle(newest.text, limit)}")
        return (system, Message("user", (*first.parts, *newest.images)) if newest.images else first)
    return (system, first.append(f"\n\n{replacement}"), *tail)
