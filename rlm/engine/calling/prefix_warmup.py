"""Batches whose prompts share a long beginning: one call is sent first, and the others when it has begun to answer.

By then its provider has the beginning in its prefix cache, and reads it there for the others at a tenth of the price; sent all
at once, every one of them would pay for it in full. It costs the batch the time to one call's first token, and no more: what
cannot tell when it begins to answer is not waited for, and nobody waits longer than ``PATIENCE_S``.

It must not know how calls are made, nor which providers there are: a model says in ``prefix_tokens`` from how many tokens on it
caches a beginning (0: never to any use); of one that does not say so, it is learned from the cached tokens that it reports.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rlm.core.messages import Reply
from rlm.ports import Model, can_stream

WarmRule: TypeAlias = Literal["auto", "always", "never"]

COMMON_TOKENS = 1024  # the least that most providers cache
CHARS_PER_TOKEN = 5  # more than most texts have, so that what we count as long enough is
MIN_CALLS = 3  # of a batch: for fewer the wait is not worth it
PATIENCE_S = 10.0  # for a first token; a prompt that fills a window takes some seconds
FRAME_S = 0.005  # prompts so large that each has a frame of its own come one after the other
KEPT_BATCHES = 256


@dataclass(slots=True)
class _Batch:
    """``prefix`` is what its prompts share, empty where they share too little; known once ``decided`` is set."""

    prompts: list[str] = field(default_factory=list)
    prefix: str = ""
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    warm: bool = False


@dataclass(slots=True)
class Ticket:
    """One call's place in its batch.

    Attributes:
        shared_chars: how much of its prompt others of the batch have as well, where that is worth a cache.
        first_word: for the call that goes first, to be called when its reply begins; else None.
        reply: to be set to the call's reply.
    """

    shared_chars: int = 0
    first_word: asyncio.Event | None = None
    reply: Reply | None = None


class Warming:
    """The batches of one run."""

    def __init__(self, rule: WarmRule = "auto", *, patience_s: float = PATIENCE_S) -> None:
        self._rule = rule
        self._patience_s = patience_s
        self._batches: dict[Hashable, _Batch] = {}
        self._caches: set[str] = set()  # names of models that have reported cached tokens
        self._silent: set[str] = set()  # those that did not tell when they began to answer

    def concerns(self, model: Model, prompt: str) -> bool:
        """Whether a call of a batch may be worth warming for; ``join`` costs more than the rest of most calls' way here."""
        min_chars = CHARS_PER_TOKEN * self._least_tokens(model)
        return 0 < min_chars <= len(prompt)

    def learn(self, model: Model, reply: Reply) -> None:
        """What a reply tells of its model's cache."""
        if reply.usage.cached_tokens:
            self._caches.add(model.name)

    @asynccontextmanager
    async def join(self, model: Model, batch: Hashable, prompt: str) -> AsyncIterator[Ticket]:
        """Waits until this call may go; what is inside makes it."""
        ticket = Ticket()
        if batch in self._batches:
            await self._follow(self._batches[batch], prompt, ticket)
            yield ticket
        else:
            async with self._lead(model, batch, prompt, CHARS_PER_TOKEN * self._least_tokens(model), ticket):
                yield ticket

    def _least_tokens(self, model: Model) -> int:
        """Of a shared beginning that is worth it; 0 where none is."""
        known: int | None = getattr(model, "prefix_tokens", None)
        if self._rule == "never" or known == 0 or not can_stream(model) or model.name in self._silent:
            return 0
        if known is None and self._rule == "auto" and model.name not in self._caches:
            return 0
        return known or COMMON_TOKENS

    async def _follow(self, batch: _Batch, prompt: str, ticket: Ticket) -> None:
        if not batch.decided.is_set():
            batch.prompts.append(prompt)
        await batch.decided.wait()
        if batch.prefix and prompt.startswith(batch.prefix):
            await batch.released.wait()
            ticket.shared_chars = len(batch.prefix) if batch.warm else 0

    @asynccontextmanager
    async def _lead(
        self, model: Model, key: Hashable, prompt: str, min_chars: int, ticket: Ticket
    ) -> AsyncIterator[None]:
        batch = self._batches[key] = _Batch([prompt])
        if len(self._batches) > KEPT_BATCHES:
            del self._batches[next(iter(self._batches))]
        try:
            await asyncio.sleep(0)  # the others of its frame
            if len(batch.prompts) < MIN_CALLS:
                await asyncio.sleep(FRAME_S)
            batch.prefix = shared_beginning(batch.prompts) if len(batch.prompts) >= MIN_CALLS else ""
            if len(batch.prefix) < min_chars:
                batch.prefix = ""
        finally:
            batch.prompts.clear()
            batch.decided.set()
        if not batch.prefix:
            yield
            return
        ticket.shared_chars = len(batch.prefix)
        ticket.first_word = asyncio.Event()
        watcher = asyncio.create_task(self._release(batch, ticket.first_word))
        try:
            yield
        finally:
            answered = ticket.reply is not None and ticket.reply.usage.calls > 0  # else it came from a cache of our own
            if answered and not ticket.first_word.is_set():
                self._silent.add(model.name)
            batch.warm = batch.warm or answered
            watcher.cancel()
            batch.released.set()

    async def _release(self, batch: _Batch, first_word: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await first_word.wait()
            batch.warm = True
        except TimeoutError:
            pass
        finally:
            batch.released.set()


def shared_beginning(prompts: list[str]) -> str:
    """What all begin with, up to the end of a word. The least and the greatest of them share no more than all do."""
    low, high = min(prompts), max(prompts)
    fits, too_long = 0, min(len(low), len(high)) + 1
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if low.startswith(high[:middle]):
            fits = middle
        else:
            too_long = middle
    end = max(low.rfind("\n", 0, fits), low.rfind(" ", 0, fits)) + 1
    return low[:end]
