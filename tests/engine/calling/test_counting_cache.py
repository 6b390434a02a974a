"""The answer cache of a run: equal requests take different answers, and cached ones are free."""

from __future__ import annotations

import asyncio

from call_kit import CallBench, TimedModel

from rlm.core.messages import Reply, Request
from rlm.engine.calling.cache import CountingCache
from rlm.engine.calling.caller import Caller
from rlm.ports import Model


class MemoryCache:
    """Implements AnswerCache with a dict."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], Reply] = {}

    async def get(self, model: Model, request: Request, occurrence: int) -> Reply | None:
        return self.answers.get((request.messages[0].text, occurrence))

    def put(self, model: Model, request: Request, occurrence: int, reply: Reply) -> None:
        self.answers[request.messages[0].text, occurrence] = reply


def ask(cache: CountingCache, prompts: list[str]) -> tuple[list[str], CallBench]:
    """A run of calls. Each of its paid answers is numbered."""
    rig = CallBench(TimedModel(lambda number: f"answer {number}"))
    caller = Caller(rig.scheduler, rig.services, cache)

    async def main() -> list[Reply]:
        return await asyncio.gather(*(caller.ask(rig.call(prompt)) for prompt in prompts))

    return [reply.text for reply in rig.clock.run(main())], rig


def test_equal_requests_of_a_run_take_different_answers() -> None:
    answers, rig = ask(CountingCache(MemoryCache()), ["same", "same", "other"])
    assert answers == ["answer 1", "answer 2", "answer 3"]
    assert rig.spent[0] == 3


def test_later_run_reads_answers_in_order() -> None:
    cache = MemoryCache()
    ask(CountingCache(cache), ["same", "same"])
    answers, rig = ask(CountingCache(cache), ["same", "same", "same"])
    assert answers == ["answer 1", "answer 2", "answer 1"]  # the third is new, and this run's first paid answer
    assert rig.log.kinds.count("sent") == 1
    assert rig.spent[0] == 1


def test_resumed_run_does_not_get_its_own_answers() -> None:
    cache = MemoryCache()
    _, first = ask(CountingCache(cache), ["same"])
    answers, rig = ask(CountingCache(cache, first.log.events), ["same"])
    assert rig.log.kinds.count("sent") == 1
    assert answers == ["answer 1"]
    assert set(cache.answers) == {("same", 1), ("same", 2)}


def test_turns_are_not_cached() -> None:
    cache = MemoryCache()
    rig = CallBench(TimedModel(lambda _: "ok"))
    caller = Caller(rig.scheduler, rig.services, CountingCache(cache))
    rig.clock.run(caller.ask_turn(rig.call(role="node")))
    assert cache.answers == {}
