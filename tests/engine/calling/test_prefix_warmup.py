"""Prefix warm-up: which call of a batch is sent first, which ones wait, and for how long. In virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.messages import Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.engine.calling.prefix_warmup import (
    COMMON_TOKENS,
    FRAME_S,
    PrefixWarmup,
    WarmupTicket,
    shared_prefix,
)
from rlm.ports import OnText
from rlm.testing import VirtualClock

RULES = "the rules of the game " * 300
PREFIX_CHARS = len(RULES + "item ")
PROMPTS = [f"{RULES}item {number}" for number in range(8)]
FIRST_TEXT_S, REST_S = 0.05, 0.4


class CachingModel:
    """A model that caches prefixes, as far as the order of calls depends on it."""

    name = "test:caching"

    def __init__(self, prefix_tokens: int | None = COMMON_TOKENS) -> None:
        self.info = ModelInfo(100_000, prefix_tokens=prefix_tokens, streams=True)

    async def ask(self, request: Request) -> Reply:
        raise NotImplementedError

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        raise NotImplementedError

    async def aclose(self) -> None: ...


class WarmupBench:
    """Makes the calls of batches. Each streams its first text after ``first_text_s`` and ends after ``REST_S`` more."""

    def __init__(self, warmup: PrefixWarmup | None = None, model: CachingModel | None = None) -> None:
        self.clock = VirtualClock()
        self.warmup = warmup or PrefixWarmup()
        self.model = model or CachingModel()
        self.tickets: dict[str, WarmupTicket] = {}
        self.sent_at: dict[str, float] = {}
        self.first_text_s = FIRST_TEXT_S
        self.fails = self.fails_at_once = self.is_silent = False
        self.usage = Usage(1, 9)

    async def call(self, batch: object, prompt: str) -> None:
        if batch is not None and self.warmup.applies(self.model, prompt):
            async with self.warmup.join(self.model, batch, prompt) as ticket:
                reply = ticket.reply = await self.reply(prompt, ticket)
        else:
            reply = await self.reply(prompt, WarmupTicket())
        self.warmup.observe(self.model, reply)

    async def reply(self, prompt: str, ticket: WarmupTicket) -> Reply:
        self.tickets[prompt], self.sent_at[prompt] = ticket, self.clock.now()
        if ticket.first_text is not None and self.fails_at_once:
            raise ConnectionError
        await asyncio.sleep(self.first_text_s)
        if ticket.first_text is not None and self.fails:
            raise ConnectionError
        if ticket.first_text is not None and not self.is_silent:
            ticket.first_text.set()
        await asyncio.sleep(REST_S)
        return Reply("r", self.usage, "m")

    def waits(self, prompts: list[str], batch: object = 1) -> float:
        """Seconds between the first and the last call of a batch."""
        self.sent_at.clear()

        async def main() -> None:
            await asyncio.gather(*(self.call(batch, prompt) for prompt in prompts), return_exceptions=True)

        self.clock.run(main())
        return round(max(self.sent_at.values()) - min(self.sent_at.values()), 6)

    def shared(self, prompts: list[str] = PROMPTS) -> set[int]:
        return {self.tickets[prompt].shared_chars for prompt in prompts}


def test_batch_follows_the_first_text_of_its_leader() -> None:
    bench = WarmupBench()
    assert bench.waits(PROMPTS) == FIRST_TEXT_S
    assert bench.sent_at[PROMPTS[0]] == min(bench.sent_at.values())
    assert sorted(bench.sent_at.values())[1] > min(bench.sent_at.values())
    assert bench.shared() == {PREFIX_CHARS}


UNWORTHY = {
    "short prompts": (PROMPTS[0][-50:], PrefixWarmup(), CachingModel()),
    "prompts that share little": (None, PrefixWarmup(), CachingModel()),
    "a model without a cache": (RULES, PrefixWarmup(), CachingModel(0)),
    "an unknown model": (RULES, PrefixWarmup(), CachingModel(None)),
    "the rule never": (RULES, PrefixWarmup("never"), CachingModel()),
}


@pytest.mark.parametrize(("shared", "warmup", "model"), UNWORTHY.values(), ids=UNWORTHY)
def test_batch_is_sent_at_once_without_benefit(shared: str | None, warmup: PrefixWarmup, model: CachingModel) -> None:
    bench = WarmupBench(warmup, model)
    prompts = [f"{number} {RULES}" if shared is None else f"{shared}{number}" for number in range(8)]
    assert bench.waits(prompts) == 0
    assert bench.shared(prompts) == {0}


def test_rule_always_warms_up_unknown_models() -> None:
    assert WarmupBench(PrefixWarmup("always"), CachingModel(None)).waits(PROMPTS) == FIRST_TEXT_S


def test_two_calls_and_single_calls_do_not_wait() -> None:
    bench = WarmupBench()
    assert bench.waits(PROMPTS[:2]) == 0
    assert bench.waits(PROMPTS, batch=None) == 0
    assert bench.shared() == {0}


def test_calls_of_several_frames_join_one_batch() -> None:
    bench = WarmupBench()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for prompt in PROMPTS[:4]:
                group.create_task(bench.call(1, prompt))
                await asyncio.sleep(FRAME_S / 10)

    bench.clock.run(main())
    assert bench.shared(PROMPTS[:4]) == {PREFIX_CHARS}


def test_reported_cached_tokens_show_that_a_model_caches() -> None:
    bench = WarmupBench(model=CachingModel(None))
    bench.usage = Usage(1, 100, 64)
    assert bench.waits(PROMPTS, 1) == 0
    assert bench.waits(PROMPTS, 2) == FIRST_TEXT_S


def test_failed_leader_releases_its_batch_without_cache_marks() -> None:
    bench = WarmupBench()
    bench.fails = True
    assert bench.waits(PROMPTS) == FIRST_TEXT_S
    assert bench.shared(PROMPTS[1:]) == {0}


def test_leader_that_fails_at_once_releases_its_batch() -> None:
    bench = WarmupBench()
    bench.fails_at_once = True
    assert bench.waits(PROMPTS) == 0
    assert set(bench.sent_at) == set(PROMPTS)


def test_wait_for_a_slow_first_text_ends() -> None:
    bench = WarmupBench(PrefixWarmup(max_wait_s=0.1))
    bench.first_text_s = 0.5
    assert bench.waits(PROMPTS) == 0.1
    assert bench.shared(PROMPTS[1:]) == {0}


def test_model_without_first_text_is_waited_for_once() -> None:
    bench = WarmupBench()
    bench.is_silent = True
    assert bench.waits(PROMPTS, 1) == FIRST_TEXT_S + REST_S
    assert bench.waits(PROMPTS, 2) == 0


def test_answer_from_the_run_cache_warms_nothing() -> None:
    bench = WarmupBench()
    bench.is_silent, bench.usage = True, Usage(0)
    bench.waits(PROMPTS, 1)
    assert bench.shared(PROMPTS[1:]) == {0}
    bench.is_silent, bench.usage = False, Usage(1, 9)
    assert bench.waits(PROMPTS, 2) == FIRST_TEXT_S  # it says nothing about the model


def test_cancelled_leader_releases_its_batch() -> None:
    bench = WarmupBench()
    bench.first_text_s = 5

    async def main() -> None:
        tasks = [asyncio.create_task(bench.call(1, prompt)) for prompt in PROMPTS[:4]]
        await asyncio.sleep(1)
        assert len(bench.sent_at) == 1
        tasks[0].cancel()
        await asyncio.sleep(0.1)
        assert len(bench.sent_at) == 4
        await asyncio.gather(*tasks, return_exceptions=True)

    bench.clock.run(main())


def test_leader_cancelled_before_its_decision_releases_its_batch() -> None:
    bench = WarmupBench()

    async def main() -> None:
        tasks = [asyncio.create_task(bench.call(1, prompt)) for prompt in PROMPTS[:4]]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    bench.clock.run(main())
    assert set(bench.sent_at) == set(PROMPTS[1:4])


def test_late_batch_calls_hit_prefix_cache() -> None:
    bench = WarmupBench()
    bench.waits(PROMPTS[:4])
    assert bench.waits(PROMPTS[4:]) == 0
    assert bench.shared() == {PREFIX_CHARS}
    other = "other " * 2_000
    bench.waits([other])
    assert bench.shared([other]) == {0}


@given(st.lists(st.text("ab \n", max_size=12), min_size=1, max_size=6), st.text("ab \n", max_size=12))
def test_shared_prefix_ends_with_a_word(tails: list[str], head: str) -> None:
    prompts = [head + tail for tail in tails]
    prefix = shared_prefix(prompts)
    common = "".join(
        letters[0] for letters in itertools.takewhile(lambda row: len(set(row)) == 1, zip(*prompts, strict=False))
    )
    assert common.startswith(prefix)
    assert not prefix or prefix[-1] in " \n"
    assert " " not in common[len(prefix) :]
    assert "\n" not in common[len(prefix) :]
