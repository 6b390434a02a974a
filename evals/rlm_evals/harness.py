"""Runs a comparison: every item in every arm, in parallel, within one budget. Resumes an earlier run of the same file.

This module selects the remaining work and stops at limits. Arms answer, and scorers judge.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from rlm.runtime.loop import BACKGROUND
from rlm_evals.arms import Arm, Outcome
from rlm_evals.item import Item
from rlm_evals.results import Line, ResultsFile
from rlm_evals.scorers import answer_text, score

SHOWN_CHARS = 500  # of answers and gold answers in the results file

# Transient failures of a provider or a network, retried by --retry-errors.
TRANSIENT_ERRORS = frozenset(
    {"RateLimitedError", "ProviderUnavailableError", "ProviderUnreachableError", "ModelTimeoutError", "Timeout"}
)


@dataclass(frozen=True, slots=True)
class TotalBudget:
    """Limits of the whole comparison. Beyond them no new item starts; running items finish.

    ``calls`` and ``usd`` are never exceeded if every item has such a limit of its own, because it is reserved for each.
    """

    usd: float | None = None
    calls: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Work and limits of a comparison. ``items`` can be a lazy iterator.

    ``calls_per_item`` and ``usd_per_item`` are the limits of the arms.
    """

    items: Iterable[Item]
    arms: Mapping[str, Arm]
    parallel: int = 4
    budget: TotalBudget = TotalBudget()
    calls_per_item: int | None = None
    usd_per_item: float | None = None
    retry_errors: bool = False


@dataclass(slots=True)
class Tally:
    """Progress of a comparison. ``stopped`` names the limit that ended it early."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    usd: float = 0.0
    calls: int = 0
    stopped: str | None = None


Progress: TypeAlias = Callable[[Line, Tally], None]


def run_comparison(plan: Plan, results: ResultsFile, progress: Progress | None = None) -> Tally:
    """Runs a plan until its work or its budget ends. Blocks; after Ctrl-C the file holds all finished items.

    Raises:
        RLMError: a failure of every item: a refused key, no credit, no sandbox, missing data.
    """
    return BACKGROUND.wait(Comparison(plan, results, progress).run())


@dataclass(slots=True)
class Comparison:
    """One run of a plan, on the engine's loop."""

    plan: Plan
    results: ResultsFile
    progress: Progress | None = None
    tally: Tally = field(default_factory=Tally)
    _running: int = 0
    _began: float = 0.0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> Tally:
        self._began = time.monotonic()
        done = self._already_done()
        todo = self._pairs(done)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.plan.parallel):
                    group.create_task(self._work(todo))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            for arm in self.plan.arms.values():
                await arm.aclose()
        return self.tally

    def _already_done(self) -> set[tuple[str, str]]:
        lines = [line for line in self.results.lines if line.arm in self.plan.arms]
        self.tally.usd = sum(line.cost_usd or 0.0 for line in lines)
        self.tally.calls = sum(line.calls for line in lines)
        again = TRANSIENT_ERRORS if self.plan.retry_errors else frozenset[str]()
        return {(line.arm, line.item) for line in lines if line.error not in again}

    async def _pairs(self, done: set[tuple[str, str]]) -> AsyncIterator[tuple[str, Item]]:
        """Remaining work, arms inside items, so that a stopped comparison has pairs. A thread generates items."""
        source = iter(self.plan.items)
        while (item := await asyncio.to_thread(_take, source)) is not None:
            for name in self.plan.arms:
                if (name, item.id) in done:
                    self.tally.skipped += 1
                else:
                    yield name, item

    async def _work(self, todo: AsyncIterator[tuple[str, Item]]) -> None:
        while (job := await self._next_job(todo)) is not None:
            name, item = job
            self._running += 1
            arm = self.plan.arms[name]
            outcome = await arm.answer(item)
            line = await asyncio.to_thread(judge, name, arm.models, item, outcome)
            await asyncio.to_thread(self.results.append, line)
            self._count(line)
            self._running -= 1
            self._ended.set()

    async def _next_job(self, todo: AsyncIterator[tuple[str, Item]]) -> tuple[str, Item] | None:
        # Only one worker at a time can advance a generator.
        async with self._turn:
            job = await anext(todo, None)
            if job is None:
                return None
            self.tally.stopped = self.tally.stopped or await self._wait_for_room()
            if self.tally.stopped:
                return None
            return job

    async def _wait_for_room(self) -> str | None:
        """Waits until another item fits, and returns the limit that forbids it, if any. Finished items release reservations."""
        while (limit := self._limit_met()) in ("calls", "usd") and self._running:
            self._ended.clear()
            await self._ended.wait()
        return limit

    def _limit_met(self) -> str | None:
        budget, tally = self.plan.budget, self.tally
        items = self._running + 1
        calls, usd = self.plan.calls_per_item or 0, self.plan.usd_per_item or 0.0
        if budget.calls is not None and tally.calls + max(1, items * calls) > budget.calls:
            return "calls"
        if budget.usd is not None and (tally.usd >= budget.usd or tally.usd + items * usd > budget.usd):
            return "usd"
        if budget.seconds is not None and time.monotonic() - self._began >= budget.seconds:
            return "seconds"
        return None

    def _count(self, line: Line) -> None:
        self.tally.done += 1
        self.tally.failed += line.status == "failed"
        self.tally.usd += line.cost_usd or 0.0
        self.tally.calls += line.calls
        if self.progress:
            self.progress(line, self.tally)


def _take(items: Iterator[Item]) -> Item | None:
    return next(items, None)


def judge(arm: str, models: tuple[str, ...], item: Item, outcome: Outcome) -> Line:
    """Scores an outcome as a line of results."""
    judged = score(item, outcome.answer)
    usage, labels = outcome.usage, outcome.labelling
    return Line(
        arm=arm,
        item=item.id,
        task=item.task,
        length=item.length,
        score=judged.value,
        published=judged.published,
        scorer=item.scorer,
        status=outcome.status,
        answer="" if outcome.answer is None else answer_text(outcome.answer)[:SHOWN_CHARS],
        gold="; ".join(item.gold[:20])[:SHOWN_CHARS],
        calls=usage.calls,
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=outcome.cost_usd,
        elapsed_s=round(outcome.elapsed_s, 3),
        labelled_rows=labels.rows,
        labels_judged=labels.judged,
        labels_right=labels.right,
        error=outcome.error,
        message=outcome.message,
        limit=outcome.limit,
        models=models,
        run_id=outcome.run_id,
    )
