"""Calls against a real server that fails in every way at once: no answer is lost or paid twice, and limits hold."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from call_kit import CallBench

from rlm.core.errors import ModelError
from rlm.core.messages import Reply
from rlm.engine.calling.caller import Caller
from rlm.models.openai_chat import OpenAIChat
from rlm.scheduler.retries import RetryPolicy
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer

CALLS = 400
LIMIT = 32
TIMEOUT_S = 3.0  # far above the time of a good call on a loaded machine
POLICY = RetryPolicy(retries=8, odd_reply_retries=8, first_delay_s=0.01, max_delay_s=0.05)


@dataclass
class Trouble:
    """A script that fails at random, with the same seed in every test run. ``hopeless`` prompts always fail."""

    chance: random.Random = field(default_factory=lambda: random.Random(11))
    quiet: bool = False
    good: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def answer(self, call: ChatCall) -> ScriptedReply:
        kind = "good" if self.quiet else self._choose()
        if call.prompt.startswith("hopeless"):
            kind = "refused"
        self.kinds[kind] += 1
        if kind in ("good", "slow"):
            self.good[call.prompt] += 1
        text = f"re: {call.prompt}"
        match kind:
            case "429":
                return ScriptedReply("slow down", status=429, headers={"Retry-After": "0.02"})
            case "500":
                return ScriptedReply("oops", status=500)
            case "reset":
                return ScriptedReply(reset=True)
            case "cut":
                return ScriptedReply(text, cut=True)
            case "slow":
                return ScriptedReply(text, slow_body_s=0.1)
            case "hang":
                return ScriptedReply(hang=True)
            case "wrong":
                return ScriptedReply(body='{"choices": [{"mess')
            case "refused":
                return ScriptedReply("no such thing", status=400)
            case _:
                return ScriptedReply(text, latency_s=0.02)

    def _choose(self) -> str:
        drawn, sum_so_far = self.chance.random(), 0.0
        for kind, share in (
            ("429", 0.10), ("500", 0.05), ("reset", 0.03), ("cut", 0.02), ("slow", 0.05), ("hang", 0.01), ("wrong", 0.03)
        ):  # fmt: skip
            sum_so_far += share
            if drawn < sum_so_far:
                return kind
        return "good"


@pytest.mark.slow
async def test_every_prompt_gets_its_answer_or_error() -> None:
    trouble = Trouble()
    prompts = [f"hopeless {i}" if i % 50 == 7 else f"item {i}" for i in range(CALLS)]
    async with ScriptedServer(trouble.answer) as server:
        model = OpenAIChat("m", api_key="k", base_url=server.base_url)
        scheduler = RunScheduler(concurrency=LIMIT, call_timeout_s=TIMEOUT_S, policy=POLICY)
        bench = CallBench(model, tokens=1_000_000_000)
        caller = Caller(scheduler, bench.services)

        async def ask(number: int) -> Reply | BaseException:
            return await caller.make_call(bench.call(prompts[number]))

        results = await asyncio.gather(*(ask(number) for number in range(CALLS)), return_exceptions=True)
        for prompt, result in zip(prompts, results, strict=True):
            if prompt.startswith("hopeless"):
                assert isinstance(result, ModelError)
            else:
                assert isinstance(result, Reply), (prompt, result)
                assert result.text == f"re: {prompt}"
        assert set(trouble.kinds) == {"good", "429", "500", "reset", "cut", "slow", "hang", "wrong", "refused"}
        assert set(trouble.good.values()) == {1}, "a complete answer was asked for again"
        assert len(server.calls) == bench.log.kinds.count("sent")
        assert server.in_flight_max <= LIMIT
        lane = scheduler.lane(model)
        assert lane.in_flight == 0
        assert lane.limit.value >= 4, "random refusals must not serialise calls"

        trouble.quiet = True
        await asyncio.gather(*(ask(i) for _ in range(3) for i in range(0, CALLS, 2) if i % 50 != 7))
        assert lane.limit.value > LIMIT / 2
        assert bench.ledger.holds == 0
        await model.aclose()
