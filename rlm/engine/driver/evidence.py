"""Evidence of a run: looks quotes up in its sources, and collects the texts that models were shown."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rlm.core.cells import PlainValue, Quote
from rlm.core.corpus import Corpus
from rlm.core.events import AnyEvent, CallStarted
from rlm.core.evidence import Citation
from rlm.core.sizes import exceeds, has_many_items

INLINE_CHARS = 200_000
"""Size of sources up to which quotes are looked up on the event loop."""
INLINE_QUOTES = 20


def corpus_of(context: PlainValue, side_table: str) -> Corpus:
    """The sources of a context. An open file is read when its text is first needed."""
    if hasattr(context, "read") and hasattr(context, "fileno"):
        return Corpus(context, read=lambda: _read_file(context.fileno()))
    return Corpus(context, side_table)


def _read_file(descriptor: int) -> str:
    with open(descriptor, encoding="utf-8", errors="replace", newline="", closefd=False) as file:
        file.seek(0)
        return file.read()


async def check_quotes(corpus: Corpus, quotes: Sequence[Quote]) -> tuple[Citation, ...]:
    """Looks quotes up in the sources, in a thread unless both are small."""
    is_small = len(quotes) <= INLINE_QUOTES and corpus.read is None and not exceeds(corpus.context, INLINE_CHARS)
    return corpus.cite(quotes) if is_small else await asyncio.to_thread(corpus.cite, quotes)


async def prepare(corpus: Corpus) -> None:
    """Describes a context of many items in a thread, so that the event loop need not walk through them."""
    if has_many_items(corpus.context) or len(corpus.side_table) > INLINE_CHARS:
        await asyncio.to_thread(getattr, corpus, "description")


class ShownTexts:
    """A sink that collects the texts that models were shown: prompts and observations.

    The root's first message does not count: the engine puts the first lines of documents there, before any is opened.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []

    def emit(self, event: AnyEvent) -> None:
        if isinstance(event, CallStarted) and not (event.role == "node" and event.depth == 0 and event.turn == 1):
            if event.role == "node":  # the earlier messages were in the turn before
                self.texts.append(event.request.messages[-1].text)
            else:
                self.texts.extend(message.text for message in event.request.messages)
