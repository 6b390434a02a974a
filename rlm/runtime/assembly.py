"""Assembles runs: opens what ``Options`` name, and joins engine, scheduler, sandbox and store.

It decides nothing about how a run proceeds.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, TypeVar, get_args

from rlm.core.answer_form import AnswerForm
from rlm.core.budget import Budget
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, ImagesNotSupportedError, IncompleteRecordError
from rlm.core.estimates import Estimate, estimate_run
from rlm.core.events import AnyEvent, NodeStarted, RunFinished, RunStarted
from rlm.core.history import History
from rlm.core.ids import ROOT, RunId
from rlm.core.messages import Image
from rlm.core.option import check_choice
from rlm.core.question import Question
from rlm.core.repl_spec import ReplLimits
from rlm.core.superseding import is_lifted
from rlm.descriptors import raise_limit
from rlm.engine.continuation import Continuation
from rlm.engine.replay.policy import CellWatch, OnDivergence, ReplayPolicy
from rlm.engine.run import Run, RunSetup
from rlm.engine.settings import TreeSettings
from rlm.models.defaults import name_models
from rlm.models.prices import PriceList
from rlm.options import Options, check_budget
from rlm.ports import SinkLike, Tool, ToolSource
from rlm.prompts import DEFAULT_QUESTION
from rlm.runtime.arguments import answer_form
from rlm.runtime.images import find_images
from rlm.runtime.journaling import RecordedRun, RunStore, StoreJournalOpener, continued_run
from rlm.runtime.leaf_cache import LeafCache
from rlm.runtime.pools import POOLS
from rlm.runtime.resources import SHARED, first_provider
from rlm.scheduler.retries import RetryPolicy
from rlm.scheduler.scheduler import RunScheduler
from rlm.views.plain import PlainSink

T = TypeVar("T")

PREFETCH_AHEAD = 64  # calls, without a limit on concurrency


class Assembly:
    """The parts that all runs of one ``RLM`` object share. ``models`` are empty once it is closed."""

    def __init__(self, options: Options) -> None:
        options.register_secrets()
        self._options = options
        self._sandbox = (options.sandbox, tuple(options.sandbox_packages))
        # A missing isolation level is an error now, not in the first run. It is tried while the models are opened.
        opening = _in_thread(lambda: SHARED.sandbox(*self._sandbox))
        self._prices = PriceList(options.prices)
        self.budget = options.budget or Budget()
        named = name_models(options.model, options.sub_model, options.models)
        self.models = SHARED.open_all(named, options.api_key, options.base_url, options.window_tokens)
        self._settings = self._make_settings()
        self._tools = make_tools(options.tools)
        self._scheduler = partial(
            RunScheduler,
            SHARED.lanes,
            concurrency=options.concurrency,
            call_timeout_s=options.call_timeout_s,
            policy=RetryPolicy(retries=options.retries, retry_seconds=options.retry_seconds),
            requests_per_minute=options.requests_per_minute,
            tokens_per_minute=options.tokens_per_minute,
        )
        self.records = RunStore(options.store, options.store_texts)
        self._cache_scope = f"{first_provider(named)}\0{options.base_url or ''}" if options.cache else None
        self._recorded = options.recorded(self.models)
        opening.result()
        # Published prices take a moment to load: beside the first call, not after its reply. The exit of the process waits for
        # this thread, because extension modules must not be interrupted by it while they are imported.
        names = tuple(model.name for model in self.models)
        threading.Thread(target=self._prices.preload, args=(names,), name="rlm-prices").start()

    def _make_settings(self) -> TreeSettings:
        options, depth = self._options, self.budget.depth
        return TreeSettings(
            models=tuple(self.models),  # runs in progress keep them when this object is closed
            family_of=options.choose_family(),
            # The budget of a resumed run cannot make it deeper: its nodes have already been shown their depth.
            max_depth=options.max_depth if depth is None else min(options.max_depth, depth),
            max_turns=options.max_iterations,
            observation_chars=options.observation_chars,
            limits=ReplLimits(
                cell_seconds=options.cell_seconds,
                memory_mb=options.memory_mb,
                prefetch_ahead=(options.concurrency or PREFETCH_AHEAD) if options.prefetch else 0,
            ),
            temperature=options.temperature,
            max_output_tokens=options.max_output_tokens,
            setup_code=options.setup_code,
            cut_replies=options.cut_replies,
            warm_prefixes=options.warm_prefixes,
            citations=options.citations,
            hedge=options.hedge,
        )

    def new_run(
        self,
        question: Question,
        sinks: Sequence[SinkLike] = (),
        *,
        budget: Budget | None = None,
        continuation: Continuation | None = None,
    ) -> Run:
        """A new run, not started. ``continuation`` is the session that it continues or begins."""
        run = new_run_id()
        if continuation is not None and not continuation.turns:
            continuation.first_run = run
        record = StoreJournalOpener(self.records, run, self._recorded)
        setup = self._setup(run, question, sinks, self._shared(budget), record)
        return Run(replace(setup, continuation=continuation))

    async def resume(
        self,
        run_id: str,
        context: PlainValue,
        budget: Budget | None,
        on_divergence: OnDivergence,
        sinks: Sequence[SinkLike] = (),
        *,
        continuation: Continuation | None = None,
        form: AnswerForm | None = None,
    ) -> Run:
        """A recorded run, ready to continue. See ``RLM.aresume``. ``continuation`` is that of a live session."""
        check_choice("on_divergence", on_divergence, get_args(OnDivergence))
        check_budget(budget)
        past = await self.records.recall(run_id, context)
        if not past.events:
            raise IncompleteRecordError(f"Run {past.info.id} was killed before any of it was stored: ask again.")
        last = past.events[-1]
        # A run that its caller stopped continues without a larger budget.
        raised = budget is not None or (isinstance(last, RunFinished) and is_lifted(last.limit))
        # Executing it again can change nothing, unless differences are paid for.
        status = past.info.status
        over = on_divergence == "stop" and (status == "complete" or (status == "partial" and not raised))
        changed = {} if budget is None else {"budget": budget.limits}
        record = None if over else StoreJournalOpener(self.records, past.info.id, changed, past=past)
        budget = Budget() if over else self._shared(budget)
        setup = self._setup(past.info.id, recorded_question(past, form), sinks, budget, record, past.events)
        return Run(
            replace(
                setup,
                reopened=raised and not over,
                policy=ReplayPolicy(on_divergence=on_divergence),
                continuation=continuation or await self.continuation_before(past),
            )
        )

    async def replay(
        self, run_id: str, context: PlainValue, watch: CellWatch | None, sinks: Sequence[SinkLike] = ()
    ) -> Run:
        """A recorded run, ready to be replayed. See ``RLM.replay``."""
        past = await self.records.recall(run_id, context)
        setup = self._setup(past.info.id, recorded_question(past), sinks, Budget(), None, past.events)
        policy = ReplayPolicy(History(keep_all=True), "replay", watch=watch)
        return Run(replace(setup, policy=policy, continuation=await self.continuation_before(past)))

    async def continuation_before(self, past: RecordedRun) -> Continuation | None:
        """The state of a session before one of its recorded questions; None for a run that continues no other.

        Raises:
            IncompleteRecordError: an earlier question of the session is not in the store.
        """
        before = continued_run(past.events)
        if not before:
            return None
        earlier = await asyncio.to_thread(self.records.recall_session, before)
        continuation = Continuation(earlier[0][0])
        for _, events in earlier:
            self.extend(continuation, events)
        return continuation

    def extend(self, continuation: Continuation, events: Sequence[AnyEvent]) -> None:
        """Adds a recorded question to the state of a session."""
        history = History()
        for event in events:
            history.note(event)
        settings = self._settings
        continuation.add(
            history.nodes.get(ROOT), cut_replies=settings.cut_replies, observation_chars=settings.observation_chars
        )

    def _shared(self, budget: Budget | None) -> Budget:
        """The budget of one run. One given for it stays within the shared budget of this object."""
        if budget is None or budget.pool is not None:
            return budget or self.budget
        return replace(budget, pool=self.budget.pool)

    def _setup(  # noqa: PLR0917
        self,
        run: RunId,
        question: Question,
        sinks: Sequence[SinkLike],
        budget: Budget,
        record: StoreJournalOpener | None,
        past: Sequence[AnyEvent] = (),
    ) -> RunSetup:
        raise_limit()
        if not self.models:
            raise ConfigurationError("This RLM was closed: make a new one.")
        return RunSetup(
            id=run,
            question=replace(question, images=self._images_of(question.context)),
            settings=self._settings.within(budget),
            sandbox=SHARED.sandbox(*self._sandbox),
            scheduler=self._scheduler(),
            price_of=self._prices.cost_usd,
            budget=budget,
            pool=None if budget.pool is None else POOLS.open(budget.pool),
            sinks=(*self._options.sinks, *sinks, *([PlainSink()] if self._options.verbose else [])),
            record=record,
            past=past,
            epoch_s=time.time() - (past[-1].at_s if past else 0.0),
            cache=self._cache(),
            coverage=self._options.coverage,
            tools=self._tools,
        )

    def _images_of(self, context: PlainValue) -> dict[str, Image]:
        """The images of a context. Raises ImagesNotSupportedError if none of the models can see them."""
        images = find_images(context)
        if images and not any(model.info.images for model in self.models):
            names = ", ".join(dict.fromkeys(model.name for model in self.models))
            raise ImagesNotSupportedError(
                f"The context has images, and {names} accepts text only. Give a `sub_model` with image input.",
                model=self.models[-1].name,
            )
        return images

    def _cache(self) -> LeafCache | None:
        if self._cache_scope is None:
            return None
        store = self.records.store()
        return None if store is None else LeafCache(store, self._cache_scope, adds=self.records.keep_texts)

    def estimate(self, context: PlainValue) -> Estimate:
        """The expected size and cost of a run. See ``RLM.estimate``."""
        settings = self._settings.within(self.budget)
        return estimate_run(
            context,
            root=settings.model_at(0).name,
            leaf=settings.model_at(max(1, settings.max_depth)).name,
            leaf_prompt_chars=settings.sub_prompt_chars(max(0, settings.max_depth - 1)),
            max_depth=settings.max_depth,
            price_of=self._prices.cost_usd,
        )

    async def close(self) -> None:
        """Releases the models that were opened by name. Runs in progress are not affected until their models close."""
        models, self.models = self.models, []
        for model in models:
            await SHARED.release(model)


def make_tools(given: object) -> list[Tool | ToolSource]:
    """The elements of ``tools=`` as tools and sources of tools. Without any, their modules are not imported.

    Raises:
        ConfigurationError: one of them cannot be a tool.
    """
    if given is None or (isinstance(given, list | tuple) and not given):
        return []
    module: Any = import_module("rlm.tools.function_tool")
    return [module.make_tool(item) for item in module.list_tools(given)]


def new_run_id() -> RunId:
    """A run id that sorts by time."""
    return RunId(f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}")


def recorded_question(past: RecordedRun, form: AnswerForm | None = None) -> Question:
    """The question of a recorded run.

    Args:
        past: the run.
        form: the form of its answer; that of the record if None.

    Raises:
        ConfigurationError: ``form`` has another schema than the record.
    """
    started = next((event for event in past.events if isinstance(event, RunStarted)), None)
    depth = next((event.depth for event in past.events if isinstance(event, NodeStarted)), 0)
    schema = None if started is None else started.schema
    if form is None:
        form = answer_form(schema)
    elif form.schema != schema:
        had = "without a schema" if schema is None else "with another schema"
        raise ConfigurationError(f"Run {past.info.id} was asked {had}: resume it without `schema`.")
    if started is None:
        return Question(DEFAULT_QUESTION, past.context, depth=depth)
    return Question(
        started.question,
        past.context,
        depth=depth,
        side_table=started.side_table,
        continues=started.continues,
        form=form,
    )


def _in_thread(work: Callable[[], T]) -> Future[T]:
    """Starts ``work`` in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised by the reader of the result
            future.set_exception(error)

    threading.Thread(target=run, name="rlm-begin", daemon=True).start()
    return future
