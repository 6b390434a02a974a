"""Random trees under random budgets, in virtual time: models that bill like providers, cells that ask for anything."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from rlm.core.bounds import most_tokens
from rlm.core.budget import Budget
from rlm.core.errors import (
    EmptyReplyError,
    MalformedReplyError,
    ModelError,
    ModelTimeoutError,
    ProviderUnreachableError,
    RateLimitedError,
    RefusalError,
    RLMError,
    TruncatedReplyError,
)
from rlm.core.ids import RunId
from rlm.core.messages import Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.core.question import Question
from rlm.core.result import Result
from rlm.engine.run import Run, RunSetup
from rlm.engine.settings import TreeSettings
from rlm.prompts import default_family
from rlm.scheduler.retries import RetryPolicy
from rlm.scheduler.scheduler import RunScheduler
from rlm.testing import ScriptedCell, ScriptedSandbox, VirtualClock

CELL = "```repl\nrun()\n```"


@dataclass
class Bill:
    """The provider's real charge, reported or not."""

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    known: Usage = field(default_factory=Usage)


@dataclass(frozen=True)
class Price:
    """Dollars for a token."""

    given: float
    written: float
    replied: float

    def usd(self, usage: Usage) -> float:
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        cached = usage.cached_tokens * self.given * 0.1
        return (
            plain * self.given + cached + usage.cache_write_tokens * self.written + usage.output_tokens * self.replied
        )


class BillingModel:
    """Answers, fails and takes its time at random, and bills every attempt as providers do."""

    info = ModelInfo(window_tokens=200_000)

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self._world = world
        self._tokens_a_byte = world.draw.choice(
            (0.2, 0.25, 0.5, 1.0)
        )  # of its tokeniser; always the same, as tokenisers are

    async def ask(self, request: Request) -> Reply:
        world, draw = self._world, self._world.draw
        text = self._text(request)
        usage = self._usage(request, text)
        sent = False
        try:
            fault = self._fault(request)
            if isinstance(fault, RateLimitedError) or (
                isinstance(fault, ProviderUnreachableError) and not fault.reached
            ):
                await asyncio.sleep(draw.random())
                raise fault
            sent = True
            await asyncio.sleep(draw.choice((0.0, 0.1, draw.random() * 5)))
            if fault is not None:
                raise fault
        except BaseException as error:
            if sent:
                known = isinstance(error, ModelError) and error.usage is not None
                world.charge(self.name, error.usage if isinstance(error, ModelError) and error.usage else usage, known)
            raise
        world.charge(self.name, usage, True)
        reported = world.prices[self.name].usd(usage) * 0.9 if draw.random() < 0.2 else None
        return Reply(text, usage, self.name, cost_usd=reported)

    async def aclose(self) -> None:
        pass

    def _usage(self, request: Request, text: str) -> Usage:
        draw, share = self._world.draw, self._tokens_a_byte
        around = most_tokens(())
        prompt = int(around * share) + sum(int((most_tokens([m]) - around) * share) for m in request.messages)
        cached = draw.randint(0, prompt) if draw.random() < 0.3 else 0
        written = prompt - cached if draw.random() < 0.3 else 0
        limit = request.max_output_tokens or 5_000
        return Usage(1, prompt, cached, written, max(int(len(text) * share), draw.choice((1, limit // 20, limit))))

    def _fault(self, request: Request) -> ModelError | None:
        draw, name = self._world.draw, self.name
        if draw.random() >= self._world.failure_rate:
            return None
        kind = draw.randint(0, 7)
        error: ModelError
        if kind == 0:
            return RateLimitedError("slow down", model=name, status=429)
        if kind == 1:
            error = ProviderUnreachableError("nobody there", model=name)
            error.reached = False
            return error
        if kind == 2:
            return ProviderUnreachableError("broke off", model=name)
        if kind == 3:
            return ModelTimeoutError("too slow", model=name)
        if kind == 4:
            return MalformedReplyError("no JSON", model=name)
        error = (EmptyReplyError, RefusalError, TruncatedReplyError)[kind - 5]("odd", model=name)
        error.usage = self._usage(request, "odd")
        return error

    def _text(self, request: Request) -> str:
        draw = self._world.draw
        if request.role == "leaf":
            return "x" * draw.choice((1, 200))
        if "Answer now" in request.messages[-1].text:
            return "FINAL(what there is)"
        return draw.choice((CELL, CELL, CELL, f"{CELL}\n{CELL}", "FINAL(done)", "Hm."))


class World:
    """One tree: its dice, its prices, its bill."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.clock = VirtualClock()
        draw = self.draw
        self.bill = Bill()
        self.failure_rate = draw.choice((0.0, 0.0, 0.1, 0.4))
        call_timeout_s = draw.choice((2.0, 600.0))  # some replies take longer than the former
        self.flawless = self.failure_rate == 0 and call_timeout_s > 5
        self.max_depth = draw.choice((0, 1, 1, 2, 3))
        self.models = [BillingModel(f"test:{level}", self) for level in range(draw.randint(1, 3))]
        self.prices = {
            model.name: Price(*(draw.choice((0.1, 1, 10)) * 1e-6 * (1 + draw.random()) for _ in range(3)))
            for model in self.models
        }
        self.budget = Budget(
            usd=draw.choice((None, 0.02, 0.3, 2.0)),
            tokens=draw.choice((None, None, 20_000, 100_000, 1_000_000)),
            calls=draw.choice((None, 2, 3, 10, 50)),
            seconds=draw.choice((None, None, 2.0, 10.0, 60.0)),
        )
        self.cancel_after_s = draw.choice((None, None, None, draw.random() * 20))
        self.finish_after_s = draw.choice((None, None, None, draw.random() * 20))
        self.sandbox = ScriptedSandbox(self.play)
        self.run = Run(
            RunSetup(
                id=RunId("r"),
                question=Question("q", "context"),
                settings=TreeSettings(
                    self.models,
                    lambda _: default_family,
                    max_depth=self.max_depth,
                    max_turns=draw.choice((1, 3, 6)),
                    observation_chars=draw.choice((500, 16_000)),
                    max_output_tokens=draw.choice((None, None, 300)),
                    max_open_repls=4,
                ),
                sandbox=self.sandbox,
                scheduler=RunScheduler(
                    concurrency=draw.choice((1, 8, 64)),
                    call_timeout_s=call_timeout_s,
                    policy=RetryPolicy(retries=2),
                    jitter=random.Random(seed),
                ),
                price_of=lambda name, usage: self.prices[name].usd(usage),
                budget=self.budget,
            )
        )

    def charge(self, model: str, usage: Usage, known: bool) -> None:
        bill = self.bill
        bill.calls += 1
        bill.tokens += usage.total_tokens
        bill.usd += self.prices[model].usd(usage)
        if known:
            bill.known = bill.known + usage

    async def play(self, cell: ScriptedCell) -> None:
        """A random choice of what cells do."""
        draw = self.draw
        for _ in range(draw.randint(1, 3)):
            match draw.randint(0, 7):
                case 0 | 1:
                    recursive = draw.choice((None, None, False))
                    prompts = ["p" * draw.choice((10, 1_000, 5_000))] * draw.choice((2, 5, 20))
                    cell.variables["found"] = [str(each) for each in await cell.batch(prompts, recursive=recursive)]
                case 2:
                    cell.print(await cell.query("q" * draw.choice((1, 3_000))))
                case 3:
                    cell.print("w" * draw.choice((10, 20_000)))
                case 4:
                    await asyncio.sleep(draw.choice((0.0, 1.0, 30.0)))
                case 5:
                    cell.print(await cell.budget())
                case 6:
                    await asyncio.gather(*(cell.ask("g" * 50) for _ in range(draw.choice((1, 10)))))
                case 7 if draw.random() < 0.3:
                    cell.final("found in code")
        if draw.random() < 0.02:
            await asyncio.sleep(1e6)  # as good as for ever

    async def live(self) -> Result | RLMError:
        """The run, together with the task that stops it."""
        loop = asyncio.get_running_loop()
        for delay, act in ((self.cancel_after_s, self.run.cancel), (self.finish_after_s, self.run.finish)):
            if delay is not None:
                loop.call_later(delay, act)
        try:
            return await self.run.answer()
        except RLMError as error:
            return error


def live(seed: int) -> tuple[World, Result | RLMError]:
    world = World(seed)
    if all(limit is None for limit in (world.cancel_after_s, world.finish_after_s, world.budget.seconds)):
        world.cancel_after_s = 1e5  # nothing else would end a cell that never does
    return world, world.clock.run(world.live())
