"""A model that follows a script: the ``Model`` port without a provider, a socket or a cost.

For tests of programs built on this package, and of the package itself. Latency is of the loop's time, so that under a
``VirtualClock`` it takes no time at all.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeAlias

from rlm.core.errors import ModelError
from rlm.core.messages import Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.testing.prefix import AppendOnly, PrefixCache, estimate_tokens
from rlm.testing.wire import join_messages

ScriptedAnswer: TypeAlias = str | Reply | ModelError
ModelScript: TypeAlias = Callable[[Request], ScriptedAnswer | Awaitable[ScriptedAnswer]] | Sequence[ScriptedAnswer]


class ScriptExhaustedError(AssertionError):
    """The script has fewer replies than there were calls."""


class ScriptedModel:
    """Replies by a function of the request, or with the entries of a list in order. A ``ModelError`` entry is raised.

    It checks every conversation of a node: one that does not grow only at its end is an AssertionError.

    Args:
        script: the replies; a function can be async.
        name: the full name to report.
        window_tokens, slots: to report, see ``ModelInfo``.
        latency_s: seconds that each answer takes, of the loop's time.

    Attributes:
        requests: every request, in the order of arrival.
        in_flight_max: the most calls that were open at once.
        cancelled: how many calls were cancelled before their answer.
    """

    def __init__(
        self,
        script: ModelScript,
        *,
        name: str = "scripted:root",
        window_tokens: int = 128_000,
        slots: int | None = None,
        latency_s: float = 0.0,
    ) -> None:
        self._script: Callable[[Request], ScriptedAnswer | Awaitable[ScriptedAnswer]]
        self._script = script if callable(script) else _in_order(iter(script), name)
        self.name = name
        self.info = ModelInfo(window_tokens, slots=slots, images=True)
        self._latency_s = latency_s
        self._cache = PrefixCache()
        self._conversations = AppendOnly()
        self._in_flight = 0
        self.requests: list[Request] = []
        self.in_flight_max = 0
        self.cancelled = 0
        self.closed = False

    async def ask(self, request: Request) -> Reply:
        if request.role == "node" and request.cache_key is not None:
            self._conversations.check(request.cache_key, request.messages)
        self.requests.append(request)
        self._in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        answered = False
        try:
            answer = self._script(request)
            if self._latency_s:
                await asyncio.sleep(self._latency_s)
            if inspect.isawaitable(answer):
                answer = await answer
            answered = True
        finally:
            self._in_flight -= 1
            self.cancelled += not answered
        if isinstance(answer, ModelError):
            raise answer
        return answer if isinstance(answer, Reply) else self._reply(request, answer)

    async def aclose(self) -> None:
        self.closed = True

    def _reply(self, request: Request, text: str) -> Reply:
        prompt = join_messages(request.messages)
        usage = Usage(
            calls=1,
            input_tokens=estimate_tokens(prompt),
            cached_tokens=self._cache.cached_tokens(prompt),
            output_tokens=estimate_tokens(text),
        )
        self._cache.store(prompt)
        return Reply(text, usage, self.name)


def _in_order(answers: Iterator[ScriptedAnswer], name: str) -> Callable[[Request], ScriptedAnswer]:
    def next_answer(request: Request) -> ScriptedAnswer:
        for answer in answers:
            return answer
        raise ScriptExhaustedError(f"{name}: the script has no reply for {request.messages[-1].text[:200]!r}")

    return next_answer
