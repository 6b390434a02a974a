"""Prefix warm-up: of a batch whose prompts share a long prefix, one call is sent first, and the others once it starts to reply.

By then the provider's prefix cache holds the prefix, and the others read it at a tenth of the price. Sent all at once, every one
of them would pay for it in full. The batch loses the time to one call's first token, and never more than ``MAX_WAIT_S``. A model
that does not stream its first token is not waited for.

It knows neither how calls are made nor which providers exist. A model gives the shortest prefix that it caches in
``info.prefix_tokens`` (0: none). If it does not, the cached tokens that it reports show that it caches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Literal, TypeAlias

from rlm.core.messages import Reply
from rlm.core.values import slotted
from rlm.ports import Model, can_stream

WarmRule: TypeAlias = Literal["auto", "always", "never"]

COMMON_TOKENS = 1024  # the shortest prefix that most providers cache
CHARS_PER_TOKEN = 5  # more than most texts have, so that a prefix counted as long enough is
MIN_CALLS = 3  # of a batch: for fewer the wait costs more than it saves
MAX_WAIT_S = 10.0  # for a first token; a prompt that fills a window takes some seconds
FRAME_S = 0.005  # large prompts arrive in one frame each, one after the other
MAX_BATCHES = 256


@slotted
class _Batch:
    """A batch of calls. ``prefix`` is the prefix they share, or empty if it is too short. It is valid once ``decided`` is set."""

    prompts: list[str] = field(default_factory=list)
    prefix: str = ""
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    warm: bool = False


@slotted
class WarmupTicket:
    """The place of one call in its batch.

    Attributes:
        shared_chars: length of the prefix shared with the batch; 0 if it is not worth caching.
        first_text: for the first call of the batch, an event to set when its reply starts; otherwise None.
        reply: to be set to the call's reply.
    """

    shared_chars: int = 0
    first_text: asyncio.Event | None = None
    reply: Reply | None = None


class PrefixWarmup:
    """The batches of one run."""

    def __init__(self, rule: WarmRule = "auto", *, max_wait_s: float = MAX_WAIT_S) -> None:
        self._rule = rule
        self._max_wait_s = max_wait_s
        self._batches: dict[Hashable, _Batch] = {}
        self._caching: set[str] = set()  # models that reported cached tokens
        self._not_streaming: set[str] = set()  # models whose first call replied without streaming its first token

    def applies(self, model: Model, prompt: str) -> bool:
        """Return True if a call of a batch should ``join``, which costs more than the rest of most calls' way here."""
        min_chars = CHARS_PER_TOKEN * self._min_tokens(model)
        return 0 < min_chars <= len(prompt)

    def observe(self, model: Model, reply: Reply) -> None:
        """Learn from a reply's usage that its model caches prefixes."""
        if reply.usage.cached_tokens:
            self._caching.add(model.name)

    @asynccontextmanager
    async def join(self, model: Model, batch: Hashable, prompt: str) -> AsyncIterator[WarmupTicket]:
        """Wait until this call can be sent. The body of the ``async with`` makes it."""
        ticket = WarmupTicket()
        if batch in self._batches:
            await self._follow(self._batches[batch], prompt, ticket)
            yield ticket
        else:
            async with self._lead(model, batch, prompt, CHARS_PER_TOKEN * self._min_tokens(model), ticket):
                yield ticket

    def _min_tokens(self, model: Model) -> int:
        """Shortest prefix of a model that is worth a warm-up; 0 if none is."""
        prefix_tokens = model.info.prefix_tokens
        if self._rule == "never" or prefix_tokens == 0 or not can_stream(model) or model.name in self._not_streaming:
            return 0
        if prefix_tokens is None and self._rule == "auto" and model.name not in self._caching:
            return 0
        return prefix_tokens or COMMON_TOKENS

    async def _follow(self, batch: _Batch, prompt: str, ticket: WarmupTicket) -> None:
        if not batch.decided.is_set():
            batch.prompts.append(prompt)
        await batch.decided.wait()
        if batch.prefix and prompt.startswith(batch.prefix):
            await batch.released.wait()
            ticket.shared_chars = len(batch.prefix) if batch.warm else 0

    @asynccontextmanager
    async def _lead(
        self, model: Model, key: Hashable, prompt: str, min_chars: int, ticket: WarmupTicket
    ) -> AsyncIterator[None]:
        batch = self._batches[key] = _Batch([prompt])
        if len(self._batches) > MAX_BATCHES:
            del self._batches[next(iter(self._batches))]
        try:
            await asyncio.sleep(0)  # lets the other calls of its frame join
            if len(batch.prompts) < MIN_CALLS:
                await asyncio.sleep(FRAME_S)
            batch.prefix = shared_prefix(batch.prompts) if len(batch.prompts) >= MIN_CALLS else ""
            if len(batch.prefix) < min_chars:
                batch.prefix = ""
        finally:
            batch.prompts.clear()
            batch.decided.set()
        if not batch.prefix:
            yield
            return
        ticket.shared_chars = len(batch.prefix)
        ticket.first_text = asyncio.Event()
        watcher = asyncio.create_task(self._release(batch, ticket.first_text))
        try:
            yield
        finally:
            # Usage without a call is a reply from the answer cache, which says nothing about the model.
            replied = ticket.reply is not None and ticket.reply.usage.calls > 0
            if replied and not ticket.first_text.is_set():
                self._not_streaming.add(model.name)
            batch.warm = batch.warm or replied
            watcher.cancel()
            batch.released.set()

    async def _release(self, batch: _Batch, first_text: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._max_wait_s):
                await first_text.wait()
            batch.warm = True
        except TimeoutError:
            pass
        finally:
            batch.released.set()


def shared_prefix(prompts: list[str]) -> str:
    """The common prefix of all prompts, up to the end of a word.

    The least and the greatest prompt share no more than all of them do, so only these two are compared.
    """
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
