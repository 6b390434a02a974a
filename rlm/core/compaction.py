"""When a conversation nears its model's window, and what takes the place of its older part.

The REPL keeps its variables whatever happens here, so the summary names them; that is what lets the model go on. A compaction
rewrites the prefix that providers cache, so it happens late and frees much: from COMPACT_AT of the window down to COMPACT_TO.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlm.core.bounds import text_bytes
from rlm.core.messages import Message
from rlm.core.observations import cut_middle
from rlm.prompts import summary_message

COMPACT_AT = 0.75
COMPACT_TO = 0.4
SUMMARY_SHARE = 0.1  # of the window: what the summary itself may take
BYTES_PER_TOKEN = 3  # on the safe side for prose and code; only decides when, never what is paid
HEAD = 2  # the system message and the question: always kept


def estimate_tokens(messages: Sequence[Message]) -> int:
    return sum(text_bytes(message.content) // BYTES_PER_TOKEN + 8 for message in messages)


def is_near_window(tokens: int, window_tokens: int) -> bool:
    return window_tokens > 0 and tokens > window_tokens * COMPACT_AT


def find_cut(messages: Sequence[Message], window_tokens: int) -> int | None:
    """Where the kept tail begins: at a model's reply, as early as COMPACT_TO allows; ``len(messages)`` where none fits.

    Returns None where leaving out everything between head and tail would free nothing.
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
    """What the model is sent for its summary: the older part as it was, so that it is read from the cache, and the request."""
    older = list(messages[:cut])
    if older[-1].role == "user":
        older[-1] = Message("user", f"{older[-1].content}\n\n{request}")
    else:
        older.append(Message("user", request))
    return tuple(older)


def compact(
    messages: Sequence[Message], cut: int, summary: str | None, variables: str, window_tokens: int
) -> tuple[Message, ...]:
    """The conversation with its older part replaced. ``summary`` None: none could be had, the variables must do."""
    limit = int(window_tokens * SUMMARY_SHARE * BYTES_PER_TOKEN)
    told = summary_message(None if summary is None else cut_middle(summary, limit), variables)
    system, first = messages[:HEAD]
    tail = tuple(messages[cut:])
    if not tail and messages[-1].role == "user" and len(messages) > HEAD:
        told = f"{told}\n\n{cut_middle(messages[-1].content, limit)}"  # the newest output: not yet seen by the model
    return (system, Message("user", f"{first.content}\n\n{told}"), *tail)
