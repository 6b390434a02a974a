"""Evidence of a run: looks quotes up in its sources, and collects the texts that models were shown."""

from __future__ import annotations

import asyncio
import codecs
import os
from collections.abc import Iterator, Sequence
from typing import Any

from rlm.core.cells import PlainValue, Quote
from rlm.core.corpus import Corpus
from rlm.core.events import AnyEvent, CallStarted
from rlm.core.evidence import Citation
from rlm.core.sizes import STR_FILE_BYTES, exceeds, has_many_items

INLINE_CHARS = 200_000
"""Size of sources up to which quotes are looked up on the event loop."""
INLINE_QUOTES = 20
PIECE_BYTES = 8 << 20
LARGE_NOTE = (
    ", {:,} bytes; too large for a copy. Use slices, find, count, re.finditer, or iterate over context.splitlines(), which all "
    "read the file as they go"
)


def corpus_of(context: PlainValue, side_table: str) -> Corpus:
    """The sources of a context. An open file is read when its text is first needed."""
    if not (hasattr(context, "read") and hasattr(context, "fileno")):
        return Corpus(context, side_table)
    try:
        size = os.fstat(context.fileno()).st_size
    except (OSError, ValueError):  # in memory
        size = 0
    return Corpus(
        context, read=lambda: _read_file(context), note=LARGE_NOTE.format(size) if size > STR_FILE_BYTES else ""
    )


def _read_file(file: Any) -> Iterator[str]:
    """The text of an open file in pieces, without a change of its position."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        descriptor = file.fileno()
    except (OSError, ValueError):
        file.seek(0)
        whole = file.read()
        yield whole if isinstance(whole, str) else decoder.decode(whole, final=True)
        return
    at = 0
    while data := os.pread(descriptor, PIECE_BYTES, at):
        at += len(data)
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)


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
