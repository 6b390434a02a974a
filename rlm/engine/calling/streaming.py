"""Streamed replies: finds the end of a turn while it arrives, and drains the rest of its stream in the background.

The rest is read for the usage that bills it, while the cells of the reply already run. It knows neither how a call is paid nor
what becomes of a turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlm.core.endings import CutRule, EndFinder
from rlm.core.messages import Reply
from rlm.ports import OnText

# Streams that outlive their run get this long, which is no longer than waiting for complete replies would have taken.
DRAIN_TIMEOUT_S = 5.0


class TurnStream:
    """Reads the stream of one call and accepts its text once its end is known.

    ``on_accept`` receives the text up to that end, before more of the stream is read.
    """

    def __init__(self, rule: CutRule, *, thinking: bool, on_accept: Callable[[str], None]) -> None:
        self._rule = rule
        self._thinking = thinking
        self._on_accept = on_accept
        self.accepted = False

    def start_attempt(self) -> OnText:
        """Return the reader of a new attempt. It starts without the text of earlier ones."""
        finder, pieces = EndFinder(self._rule, thinking=self._thinking), list[str]()

        def on_text(piece: str) -> bool:
            if not self.accepted:
                pieces.append(piece)
                end = finder.feed(piece)
                if end is not None:
                    self.accepted = True
                    self._on_accept("".join(pieces)[:end])
            return self.accepted

        return on_text


class FirstText:
    """Sets an event when a reply starts, and accepts nothing early."""

    accepted = False

    def __init__(self, started: asyncio.Event) -> None:
        self._started = started

    def start_attempt(self) -> OnText:
        """Return the reader of a new attempt."""

        def on_text(_piece: str) -> bool:
            self._started.set()
            return False

        return on_text


class StreamDrain:
    """Accepted turns of one run whose streams still go on. Each ends and settles by itself."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Reply]] = set()

    def add(self, task: asyncio.Task[Reply]) -> None:
        """Hold a task until its stream ends."""
        self._tasks.add(task)
        task.add_done_callback(self._discard)

    async def finish(self, timeout_s: float) -> None:
        """Wait for the streams, then cancel those that remain. A cancelled one is settled at its whole reservation."""
        tasks = list(self._tasks)
        if not tasks:
            return
        try:
            if timeout_s:
                await asyncio.wait(tasks, timeout=timeout_s)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _discard(self, task: asyncio.Task[Reply]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # settled already; retrieved so that asyncio does not report it
