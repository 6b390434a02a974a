"""The scheduler against a real server that fails in every way at once: nothing is lost, nothing is paid twice, limits hold."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from rlm.core.errors import ModelError
from rlm.core.ids import NodeId
from rlm.core.messages import Message, Reply, Request
from rlm.models.openai_chat import OpenAIChat
from rlm.scheduler.dispatcher import Dispatcher
from rlm.scheduler.retries import RetryPolicy
from rlm.testing.server import ChatCall, ScriptedReply, ScriptedServer

CALLS = 400
LIMIT = 32
TIMEOUT_S = 3.0  # far above what a good call takes on a loaded machine
POLICY = RetryPolicy(retries=8, odd_reply_retries=8, first_delay_s=0.01, max_delay_s=0.05)


@dataclass
class Trouble:
    """A script that fails by chance, the same chance in every run of the tests; ``hopeless`` prompts always fail."""

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


class Attempts:
    """Implements CallObserver."""

    decided = False

    def __init__(self) -> None:
        self.left = 0

    def listen(self) -> None:
        return None

    async def admit(self, attempt: int) -> None: ...

    def sent(self, attempt: int) -> None:
        self.left += 1

    def retried(self, attempt: int, delay_s: float, error: ModelError) -> None:
        pass


async def test_every_answer_arrives_or_its_place_holds_the_error() -> None:
    trouble, attempts = Trouble(), Attempts()
    prompts = [f"hopeless {i}" if i % 50 == 7 else f"item {i}" for i in range(CALLS)]
    async with ScriptedServer(trouble.answer) as server:
        model = OpenAIChat("m", api_key="k", base_url=server.base_url)
        dispatcher = Dispatcher(concurrency=LIMIT, call_timeout_s=TIMEOUT_S, policy=POLICY)

        async def ask(number: int) -> Reply | BaseException:
            request = Request((Message("user", prompts[number]),))
            node = NodeId(f"0/1.1.{number % 5}")
            return await dispatcher.ask(model, request, node=node, observer=attempts)

        results = await asyncio.gather(*(ask(number) for number in range(CALLS)), return_exceptions=True)
        for prompt, result in zip(prompts, results, strict=True):
            if prompt.startswith("hopeless"):
                assert isinstance(result, ModelError)
            else:
                assert isinstance(result, Reply), (prompt, result)
                assert result.text == f"re: {prompt}"
        assert set(trouble.kinds) == {"good", "429", "500", "reset", "cut", "slow", "hang", "wrong", "refused"}
        assert set(trouble.good.values()) == {1}, "a whole answer was asked for again"
        assert len(server.calls) == attempts.left
        assert server.in_flight_max <= LIMIT
        lane = dispatcher.lane(model)
        assert lane.in_flight == 0
        assert lane.limit < LIMIT

        trouble.quiet = True
        await asyncio.gather(*(ask(i) for _ in range(3) for i in range(0, CALLS, 2) if i % 50 != 7))
        assert lane.limit == LIMIT
        await model.aclose()
