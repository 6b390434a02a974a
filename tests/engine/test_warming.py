"""Which calls of a batch go first, who waits for them and how long; without sockets."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.messages import Reply, Request, Usage
from rlm.engine.calling.prefix_warmup import COMMON_TOKENS, Ticket, Warming, shared_beginning
from rlm.ports import OnText

SHARED = "the rules of the game " * 300


class Caching:
    """A model that caches beginnings, as far as the scheduling of calls can see."""

    name = "test:caching"
    window_tokens = 100_000

    def __init__(self, prefix_tokens: int | None = COMMON_TOKENS) -> None:
        self.prefix_tokens = prefix_tokens

    async def ask(self, request: Request) -> Reply:
        raise NotImplementedError

    async def stream(self, request: Request, hear: OnText) -> Reply:
        raise NotImplementedError

    async def aclose(self) -> None: ...


class Bench:
    """Makes the calls of one batch; each takes ``first_word_s``, then ``rest_s``."""

    def __init__(self, warming: Warming, model: Caching) -> None:
        self.warming, self.model = warming, model
        self.tickets: dict[str, Ticket] = {}
        self.began: dict[str, float] = {}
        self.first_word_s, self.rest_s = 0.05, 0.4
        self.fails = self.is_mute = False
        self.cached = 0
        self.calls = 1

    async def call(self, batch: object, prompt: str) -> None:
        if batch is not None and self.warming.concerns(self.model, prompt):
            async with self.warming.join(self.model, batch, prompt) as ticket:
                ticket.reply = await self.answer(prompt, ticket)
        else:
            ticket = Ticket(reply=await self.answer(prompt, Ticket()))
        assert ticket.reply is not None
        self.warming.learn(self.model, ticket.reply)

    async def answer(self, prompt: str, ticket: Ticket) -> Reply:
        self.tickets[prompt], self.began[prompt] = ticket, time.monotonic()
        await asyncio.sleep(self.first_word_s)
        if ticket.first_word is not None and self.fails:
            raise ConnectionError
        if ticket.first_word is not None and not self.is_mute:
            ticket.first_word.set()
        await asyncio.sleep(self.rest_s)
        return Reply("r", Usage(self.calls, 9, self.cached), "m")

    async def run(self, prompts: list[str], batch: object = 1) -> float:
        """How long after the first of them the last one left."""
        self.began.clear()
        await asyncio.gather(*(self.call(batch, prompt) for prompt in prompts), return_exceptions=True)
        return max(self.began.values()) - min(self.began.values())

    @property
    def shared(self) -> set[int]:
        return {ticket.shared_chars for ticket in self.tickets.values()}


PROMPTS = [f"{SHARED}item {number}" for number in range(8)]


async def test_the_others_leave_when_the_first_begins_to_answer() -> None:
    bench = Bench(Warming(), Caching())
    waited = await bench.run(PROMPTS)
    assert 0.04 < waited < 0.3
    assert bench.began[PROMPTS[0]] == min(bench.began.values())
    assert bench.shared == {len(SHARED + "item ")}


PLAIN = {
    "short prompts": (PROMPTS[0][-50:], Warming(), Caching()),
    "prompts that share little": (None, Warming(), Caching()),
    "a model that caches nothing": (SHARED, Warming(), Caching(0)),
    "a model of which nothing is known": (SHARED, Warming(), Caching(None)),
    "a rule": (SHARED, Warming("never"), Caching()),
}


@pytest.mark.parametrize(("shared", "warming", "model"), PLAIN.values(), ids=PLAIN)
async def test_nobody_waits_where_it_would_not_pay(shared: str | None, warming: Warming, model: Caching) -> None:
    bench = Bench(warming, model)
    prompts = [f"{number} {SHARED}" if shared is None else f"{shared}{number}" for number in range(8)]
    assert await bench.run(prompts) < 0.04
    assert bench.shared == {0}


async def test_two_calls_are_too_few_and_single_ones_stand_alone() -> None:
    bench = Bench(Warming(), Caching())
    assert await bench.run(PROMPTS[:2]) < 0.04
    assert await bench.run(PROMPTS, batch=None) < 0.04
    assert bench.shared == {0}


async def test_that_a_model_caches_is_learned_from_what_it_reports() -> None:
    bench = Bench(Warming(), Caching(None))
    bench.cached = 64
    assert await bench.run(PROMPTS, 1) < 0.04
    assert await bench.run(PROMPTS, 2) > 0.04


async def test_a_first_call_that_fails_holds_nobody_up_and_nothing_is_marked() -> None:
    bench = Bench(Warming(), Caching())
    bench.fails = True
    assert await bench.run(PROMPTS) < 0.3
    assert {bench.tickets[prompt].shared_chars for prompt in PROMPTS[1:]} == {0}


async def test_patience_ends() -> None:
    bench = Bench(Warming(patience_s=0.1), Caching())
    bench.first_word_s = 0.5
    assert 0.08 < await bench.run(PROMPTS) < 0.4


async def test_a_model_that_does_not_tell_when_it_begins_is_waited_for_once() -> None:
    bench = Bench(Warming(), Caching())
    bench.is_mute = True
    assert await bench.run(PROMPTS, 1) > 0.4
    assert await bench.run(PROMPTS, 2) < 0.04


async def test_an_answer_from_our_own_cache_warms_nothing_and_tells_nothing_of_the_model() -> None:
    bench = Bench(Warming(), Caching())
    bench.is_mute, bench.calls = True, 0
    await bench.run(PROMPTS, 1)
    assert {bench.tickets[prompt].shared_chars for prompt in PROMPTS[1:]} == {0}
    bench.is_mute, bench.calls = False, 1
    assert await bench.run(PROMPTS, 2) > 0.04


async def test_a_first_call_that_is_cancelled_lets_the_others_go() -> None:
    bench = Bench(Warming(), Caching())
    bench.first_word_s = 5
    tasks = [asyncio.create_task(bench.call(1, prompt)) for prompt in PROMPTS[:4]]
    await asyncio.sleep(0.05)
    assert len(bench.began) == 1
    tasks[0].cancel()
    await asyncio.sleep(0.05)
    assert len(bench.began) == 4
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_those_who_come_later_read_what_is_there() -> None:
    bench = Bench(Warming(), Caching())
    await bench.run(PROMPTS[:4])
    assert await bench.run(PROMPTS[4:]) < 0.04
    assert bench.shared == {len(SHARED + "item ")}
    await bench.run(["other " * 2_000])
    assert bench.tickets["other " * 2_000].shared_chars == 0


@given(st.lists(st.text("ab \n", max_size=12), min_size=1, max_size=6), st.text("ab \n", max_size=12))
def test_the_shared_beginning_is_what_all_begin_with_to_the_end_of_a_word(tails: list[str], head: str) -> None:
    prompts = [head + tail for tail in tails]
    found = shared_beginning(prompts)
    common = "".join(
        letters[0] for letters in itertools.takewhile(lambda row: len(set(row)) == 1, zip(*prompts, strict=False))
    )
    assert common.startswith(found)
    assert not found or found[-1] in " \n"
    assert " " not in common[len(found) :]
    assert "\n" not in common[len(found) :]
