"""Hears a node's reply while it arrives, up to its end; and looks after what is then still to come: the rest of the stream, read
for the usage that bills it, while the cells of the reply already run.

It must not know how a call is paid for, nor what a turn becomes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlm.core.endings import CutRule, EndFinder
from rlm.core.messages import Reply

# After a run's end its streams may last so long; no longer than waiting for whole replies would have.
LAST_WORDS_S = 5.0


class TurnStream:
    """Hears one call. ``decide`` is told the text as soon as it is known where it ends, before any more of it arrives."""

    def __init__(self, rule: CutRule, *, thinking: bool, decide: Callable[[str], None]) -> None:
        self._rule = rule
        self._is_thinking = thinking
        self._decide = decide
        self.decided = False

    def listen(self) -> Callable[[str], bool]:
        """For one attempt: what an earlier one had said is forgotten."""
        finder, pieces = EndFinder(self._rule, thinking=self._is_thinking), list[str]()

        def hear(piece: str) -> bool:
            if not self.decided:
                pieces.append(piece)
                end = finder.feed(piece)
                if end is not None:
                    self.decided = True
                    self._decide("".join(pieces)[:end])
            return self.decided

        return hear


class FirstText:
    """Hears no more than that a reply begins."""

    decided = False

    def __init__(self, begins: asyncio.Event) -> None:
        self._begins = begins

    def listen(self) -> Callable[[str], bool]:
        def hear(_piece: str) -> bool:
            self._begins.set()
            return False

        return hear


class StreamDrain:
    """Calls of one run whose reply was taken and whose stream goes on. Each ends by itself and pays for itself."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Reply]] = set()

    def add(self, task: asyncio.Task[Reply]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    async def end(self, patience_s: float) -> None:
        """Waits for them, and breaks off those that take too long: they count with what they can have cost at most."""
        tasks = list(self._tasks)
        if not tasks:
            return
        try:
            if patience_s:
                await asyncio.wait(tasks, timeout=patience_s)
        finally:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, task: asyncio.Task[Reply]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was paid for; nobody waits for it
