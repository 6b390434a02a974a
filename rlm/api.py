"""The public API, and the one place where adapters are chosen and wired together."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

from rlm.core.budget import Budget
from rlm.core.cells import PlainValue
from rlm.core.endings import CutRule
from rlm.core.errors import ConfigurationError, IncompleteRecordError
from rlm.core.estimates import Estimate, estimate_run
from rlm.core.events import AnyEvent, NodeStarted, RunFinished, RunStarted
from rlm.core.history import History
from rlm.core.ids import RunId
from rlm.core.messages import JsonValue
from rlm.core.repl_spec import ReplLimits
from rlm.core.result import Result
from rlm.engine.calling.prefix_warmup import WarmRule
from rlm.engine.replay.policy import CellWatch, OnDivergence, ReplayPolicy
from rlm.engine.run import Run, RunSetup
from rlm.engine.settings import TreeSettings
from rlm.models.prices import PriceList
from rlm.options import check_budget, check_choice, check_options, check_query, choose_prompt, name_models
from rlm.ports import Model, Sink
from rlm.prompts import DEFAULT_QUESTION, PromptFamily
from rlm.report.page import page_of_events
from rlm.runtime.handles import RunHandle, Stream
from rlm.runtime.journaling import DEFAULT_STORE, KEPT_OPTIONS, LeafCache, Record, Records
from rlm.runtime.loop import BACKGROUND
from rlm.runtime.resources import SHARED, first_provider
from rlm.scheduler.dispatcher import Dispatcher
from rlm.scheduler.retries import RetryPolicy

T = TypeVar("T")


class RLM:
    """A Recursive Language Model: answers questions over inputs of any size.

    The input becomes the variable ``context`` of a sandboxed Python REPL; the root model writes code that looks at it and
    asks other models about pieces of it, in parallel and recursively. (Zhang, Kraska, Khattab: "Recursive Language
    Models", arXiv 2512.24601.)

    Args:
        model: the root's model: ``provider:model`` (a bare name means OpenAI), ``local:...``, ``plan:...``, or any object
            that fits ``rlm.Model``. None uses what ``default_models()`` says.
        sub_model: the model of all deeper levels; the root's own when None.
        models: one model for each depth, the last serving all deeper levels; instead of ``model`` and ``sub_model``.
        max_depth: levels of model calls below the root. 1: sub-calls are plain calls; 2: they are RLMs whose sub-calls are
            plain calls; 0: a REPL without sub-calls.
        max_iterations: turns of each node. When they are used up, one last turn is asked for the answer.
        budget: limits of the whole run. Its ``iterations``, where given, count in place of ``max_iterations``.
        sandbox: ``"auto"`` takes the strongest isolation this machine offers; or the name of a level, which must be there.
        sandbox_packages: what cells may import besides the standard library, for instance ``("numpy", "pandas")``; installed
            here, and imported before the sandbox is closed.
        concurrency: calls to one model in flight at once, for the whole tree.
        requests_per_minute, tokens_per_minute: a provider's limits for one model, kept within each run by spacing calls out.
        retries: further attempts for a call that failed in a way that may pass.
        call_timeout_s: seconds for one attempt of one call.
        cell_seconds: wall time of one cell, waits for sub-calls not counted.
        memory_mb: memory of one REPL, in MiB.
        observation_chars: characters of output that a model is shown after each turn.
        cut_replies: where a turn ends whose reply goes on after its cells. ``"invented"``: where it tells of output that it has
            not seen; cells in a row run. ``"first_cell"``: after its first cell. ``"never"``: replies are taken whole. But for
            ``"never"``, replies of nodes are streamed where the provider can, and their cells start as soon as the end is known.
        warm_prefixes: whether a batch whose prompts share a long beginning sends one call first, and the others when that
            begins to answer: they read the beginning from the provider's prefix cache. ``"auto"``: where the model is known to
            have one, or has reported cached tokens in this run; ``"always"``, ``"never"``.
        temperature, max_output_tokens: passed to every call; None leaves them to the provider.
        prompt: a prompt family by name, or a function from ``PromptFacts`` to the system message; by model when None.
        prefetch: ask the calls of sequential code ahead of time, as far as no answer decides them: a loop over ``llm_query``
            then takes as long as a batch. Where the sandbox's level allows it ("strict").
        setup_code: Python that runs in every REPL before its first cell.
        prices: ``{model: (input, output)}`` in dollars for a million tokens, with cached input and cache writes as third and
            fourth figure where they differ; they count before published prices.
        sinks: are told every event of every run, on the engine's thread; they must not block.
        api_key, base_url: for the root's provider and all models of that provider; from the environment when None.
        window_tokens: how many tokens prompt and reply may have together, for models that the built-in table does not know.
        store: where runs are kept, so that they can be looked at, taken up again and replayed: a path, ``"memory"``, None for
            nowhere; ``"default"`` is ``RLM_STORE``, else a file among the user's data.
        store_texts: False keeps hashes and numbers only.
        cache: answers to leaf calls are taken from earlier runs where exactly the same was asked, the same number of times.

    An object may be used from many threads and loops at once; every call is a run of its own. ``close()`` releases
    connections; the end of the process does so too.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    def __init__(
        self,
        model: str | Model | None = None,
        *,
        sub_model: str | Model | None = None,
        models: Sequence[str | Model] | None = None,
        max_depth: int = 1,
        max_iterations: int = 20,
        budget: Budget | None = None,
        sandbox: str = "auto",
        sandbox_packages: Sequence[str] = (),
        concurrency: int = 64,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        retries: int = 5,
        call_timeout_s: float = 600.0,
        cell_seconds: float = 120.0,
        memory_mb: int = 2048,
        observation_chars: int = 16_000,
        cut_replies: CutRule = "invented",
        warm_prefixes: WarmRule = "auto",
        temperature: float | None = None,
        max_output_tokens: int | None = None,
        prompt: str | PromptFamily | None = None,
        prefetch: bool = True,
        setup_code: str | None = None,
        prices: Mapping[str, tuple[float, ...]] | None = None,
        sinks: Sequence[Sink] = (),
        api_key: str | None = None,
        base_url: str | None = None,
        window_tokens: int | None = None,
        store: str | Path | None = DEFAULT_STORE,
        store_texts: bool = True,
        cache: bool = False,
    ) -> None:
        given = {
            **locals(),
            "sandbox_packages": list(sandbox_packages),
            "prices": None if prices is None else {name: list(figures) for name, figures in prices.items()},
        }
        check_options(given)
        check_budget(budget)
        self._budget = budget or Budget()
        # A level that is not there is an error now, not at the first run; it is tried while the models are loaded.
        self._sandbox = (sandbox, tuple(sandbox_packages))
        opening = _begin(lambda: SHARED.sandbox(*self._sandbox))
        self._sinks = tuple(sinks)
        self._prices = PriceList(prices)
        named = name_models(model, sub_model, models)
        self._models = SHARED.open_all(named, api_key, base_url, window_tokens)
        self._settings = TreeSettings(
            models=tuple(self._models),  # of runs that still go on when this object is closed
            family_of=choose_prompt(prompt),
            # A budget that a run is taken up with cannot make it deeper: its nodes were told how deep it is.
            max_depth=max_depth if self._budget.depth is None else min(max_depth, self._budget.depth),
            max_turns=max_iterations,
            observation_chars=observation_chars,
            limits=ReplLimits(
                cell_seconds=cell_seconds, memory_mb=memory_mb, prefetch_ahead=concurrency if prefetch else 0
            ),
            temperature=temperature,
            max_output_tokens=max_output_tokens,
            setup_code=setup_code,
            cut_replies=cut_replies,
            warm_prefixes=warm_prefixes,
        )
        self._scheduler = partial(
            Dispatcher,
            concurrency=concurrency,
            call_timeout_s=call_timeout_s,
            policy=RetryPolicy(retries=retries),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        keys = [value for name, value in os.environ.items() if name.endswith(("_API_KEY", "_TOKEN", "_SECRET"))]
        self._records = Records(store, store_texts, [key for key in (api_key, *keys) if key])
        self._cache_scope = f"{first_provider(named)}\0{base_url or ''}" if cache else None
        self._options: dict[str, JsonValue] = {
            "models": [model.name for model in self._models],
            "windows": [model.window_tokens for model in self._models],
            "budget": self._budget.limits,
            "prompt": prompt if isinstance(prompt, str | None) else "custom",
            "base_url": base_url,
            "window_tokens": window_tokens,
            "cache": cache,
            **{name: given[name] for name in KEPT_OPTIONS},
        }
        opening.result()
        # The price list takes a moment to load: beside the first call, not after its reply.
        threading.Thread(target=self._prices.preload, args=(self.model_names,), name="rlm-prices", daemon=True).start()

    def run(self, query: str | None, context: PlainValue = None) -> Result:
        """Answers ``query`` over ``context`` and waits for it. See ``arun`` for what is returned and raised."""
        return BACKGROUND.wait(self.execute(query, context))

    async def arun(self, query: str | None, context: PlainValue = None) -> Result:
        """Answers ``query`` over ``context``. Cancelling the task stops the run.

        Args:
            query: the question; None when ``context`` itself holds it.
            context: str, list of str, list of messages, dict, or other plain data.

        Returns:
            The answer with its status, usage, cost and tree.

        Raises:
            RLMError: when there is no answer; ``error.result`` holds what the run had reached. See ``rlm.core.errors``.
        """
        return await asyncio.wrap_future(BACKGROUND.submit(self.execute(query, context)))

    def estimate(self, context: PlainValue) -> Estimate:
        """What a run over this input may take: its size, calls, tokens and dollars, from low to high. Spends nothing."""
        settings = self._settings.within(self._budget)
        return estimate_run(
            context,
            root=settings.model_at(0).name,
            leaf=settings.model_at(max(1, settings.max_depth)).name,
            leaf_prompt_chars=settings.sub_prompt_chars(max(0, settings.max_depth - 1)),
            max_depth=settings.max_depth,
            price_of=self._prices.cost_usd,
        )

    def start(
        self, query: str | None, context: PlainValue = None, *, sinks: Sequence[Sink] = (), sources: Sequence[str] = ()
    ) -> RunHandle:
        """Starts a run and returns at once; the handle waits for it, has it finish early, or cancels it.

        ``sources`` are the files that ``context`` was read from: kept on record, for when the run is taken up again.
        """
        check_query(query)
        return RunHandle(self.prepare(sinks=sinks, sources=sources), query or DEFAULT_QUESTION, context)

    def stream(self, query: str | None, context: PlainValue = None) -> Stream:
        """Starts a run and gives its events as they happen: ``async for event in rlm.stream(query, context)``."""
        return Stream(lambda sink: BACKGROUND.submit(self.execute(query, context, sinks=(sink,))))

    def resume(
        self,
        run_id: str,
        context: PlainValue = None,
        *,
        budget: Budget | None = None,
        on_divergence: OnDivergence = "stop",
    ) -> Result:
        """Takes up a run that was killed, cancelled, failed, or met a limit, and waits for its answer. See ``aresume``."""
        return BACKGROUND.wait(self._resume(run_id, context, budget, on_divergence))

    def start_resume(
        self,
        run_id: str,
        context: PlainValue = None,
        *,
        budget: Budget | None = None,
        on_divergence: OnDivergence = "stop",
    ) -> RunHandle:
        """Takes up a run as ``aresume`` does, and returns when it goes on; the handle is as that of ``start``."""
        return RunHandle(*BACKGROUND.wait(self._take_up(run_id, context, budget, on_divergence)))

    async def aresume(
        self,
        run_id: str,
        context: PlainValue = None,
        *,
        budget: Budget | None = None,
        on_divergence: OnDivergence = "stop",
    ) -> Result:
        """Takes up a run where its record ends. Its cells are executed again with the answers they had; no answer is paid twice.

        Args:
            run_id: its id, or a beginning of it that no other run has; "last" is the newest.
            context: needed where it was too large to be kept; must be the same.
            budget: limits of the whole run, what it has spent already included, in place of those this object has; but its
                ``seconds`` count from now on. A run that ended because a limit was met goes on when one is given here.
            on_divergence: what happens when a cell does something else than it did: "stop" raises, "pay" goes on and asks
                anew where it must.

        Raises:
            UnknownRunError, IncompleteRecordError: there is not enough to go on from.
            DivergenceError: a cell did something else than it did.
            RLMError: as ``arun``.
        """
        return await asyncio.wrap_future(BACKGROUND.submit(self._resume(run_id, context, budget, on_divergence)))

    def replay(self, run_id: str, context: PlainValue = None, *, watch: CellWatch | None = None) -> Result:
        """Executes a whole recorded run again without asking any model, and checks that everything is the same.

        Args:
            run_id, context: as for ``resume``.
            watch: is awaited after each cell, with its node, the cell and the REPL.

        Raises:
            DivergenceError: names the first cell that did something else, or the first turn that would be asked something else.
            IncompleteRecordError: the record ends before the run does.
        """
        return BACKGROUND.wait(self._replay(run_id, context, watch))

    async def areplay(self, run_id: str, context: PlainValue = None, *, watch: CellWatch | None = None) -> Result:
        """Replays a recorded run. See ``replay``."""
        return await asyncio.wrap_future(BACKGROUND.submit(self._replay(run_id, context, watch)))

    def report_html(self, run_id: str = "last") -> str:
        """A recorded run as one self-contained HTML page: its tree, its timeline, its cells and calls.

        Raises:
            UnknownRunError: there is no such run.
        """
        store = self._records.need_store()
        info = store.find(run_id)
        return page_of_events(info.id, store.events(info.id, lenient=True))

    async def execute(
        self,
        query: str | None,
        context: PlainValue = None,
        *,
        depth: int = 0,
        sinks: Sequence[Sink] = (),
        sources: Sequence[str] = (),
    ) -> Result:
        """One run on the current loop, which must be the engine's. For code that runs there: models, other runs.

        ``sources`` are the files that ``context`` was read from: kept on record, for when the run is taken up again.
        """
        check_query(query)
        run = self.prepare(depth=depth, sinks=sinks, sources=sources)
        return await run.answer(query or DEFAULT_QUESTION, context)

    async def _resume(
        self, run_id: str, context: PlainValue, budget: Budget | None, on_divergence: OnDivergence
    ) -> Result:
        run, question, known = await self._take_up(run_id, context, budget, on_divergence)
        return await run.answer(question, known)

    async def _take_up(
        self, run_id: str, context: PlainValue, budget: Budget | None, on_divergence: OnDivergence
    ) -> tuple[Run, str, PlainValue]:
        """A run that is on record, ready to go on, with what it is asked and over what."""
        check_choice("on_divergence", on_divergence, get_args(OnDivergence))
        check_budget(budget)
        past = await self._records.recall(run_id, context)
        if not past.events:
            raise IncompleteRecordError(f"run {past.info.id} was killed before anything of it was kept: ask again")
        policy = ReplayPolicy(on_divergence=on_divergence)
        ended = past.events[-1]
        # Who had stopped it wants it to go on now.
        more = budget is not None or (isinstance(ended, RunFinished) and ended.limit == "stopped")
        # Nothing can come of executing it again, unless what differs is paid for.
        status = past.info.status
        over = on_divergence == "stop" and (status == "complete" or (status == "partial" and not more))
        options = {} if budget is None else {"budget": budget.limits}
        record = None if over else Record(self._records, past.info.id, options, past=past)
        run = self.prepare(
            run=past.info.id,
            depth=depth_of(past.events),
            record=record,
            past=past.events,
            reopened=more and not over,
            policy=policy,
            budget=Budget() if over else budget,
        )
        return run, question_of(past.events), past.context

    async def _replay(self, run_id: str, context: PlainValue, watch: CellWatch | None) -> Result:
        past = await self._records.recall(run_id, context)
        policy = ReplayPolicy(History(keep_all=True), "replay", watch=watch)
        run = self.prepare(
            run=past.info.id,
            depth=depth_of(past.events),
            past=past.events,
            policy=policy,
            budget=Budget(),
        )
        return await run.answer(question_of(past.events), past.context)

    def prepare(
        self,
        *,
        depth: int = 0,
        sinks: Sequence[Sink] = (),
        sources: Sequence[str] = (),
        run: RunId | None = None,
        record: Record | None = None,
        past: Sequence[AnyEvent] = (),
        reopened: bool = False,
        policy: ReplayPolicy | None = None,
        budget: Budget | None = None,
    ) -> Run:
        """A run that has not begun. ``depth`` is where its root stands; ``sources`` are the files its context was read from.

        The others take up a run that is on record (``past``), see ``RunSetup``.
        """
        if not self._models:
            raise ConfigurationError("this RLM was closed; make a new one.")
        run_id = run or new_run_id()
        budget = budget or self._budget
        return Run(
            RunSetup(
                id=run_id,
                settings=self._settings.within(budget),
                sandbox=SHARED.sandbox(*self._sandbox),
                scheduler=self._scheduler(),
                price_of=self._prices.cost_usd,
                budget=budget,
                sinks=(*self._sinks, *sinks),
                depth=depth,
                record=record if past else Record(self._records, run_id, self._options, sources),
                past=past,
                reopened=reopened,
                policy=policy or ReplayPolicy(),
                epoch_s=time.time() - (past[-1].at_s if past else 0.0),
                cache=self._cache(),
            )
        )

    def _cache(self) -> LeafCache | None:
        if self._cache_scope is None:
            return None
        store = self._records.store()
        return None if store is None else LeafCache(store, self._cache_scope)

    @property
    def can_resume(self) -> bool:
        """Whether this object's runs are kept so that they can be taken up again."""
        return self._records.keep_texts and self._records.is_kept

    @property
    def model_names(self) -> tuple[str, ...]:
        """The full names of the models, by depth."""
        return tuple(model.name for model in self._models)

    def close(self) -> None:
        """Releases the models opened by name: connections end and local models leave memory when nobody else uses them."""
        BACKGROUND.wait(self._close())

    async def aclose(self) -> None:
        """Closes this object from any event loop. See ``close``."""
        await asyncio.wrap_future(BACKGROUND.submit(self._close()))

    async def _close(self) -> None:
        models, self._models = self._models, []
        for model in models:
            await SHARED.release(model)

    def __enter__(self) -> RLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def new_run_id() -> RunId:
    return RunId(f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}")


def question_of(events: Sequence[AnyEvent]) -> str:
    """What a recorded run was asked."""
    return next((event.question for event in events if isinstance(event, RunStarted)), DEFAULT_QUESTION)


def depth_of(events: Sequence[AnyEvent]) -> int:
    """Where the root of a recorded run stands; 0, unless an outer tree asked for the run."""
    return next((event.depth for event in events if isinstance(event, NodeStarted)), 0)


def ask(query: str, context: PlainValue = None, *, model: str | Model | None = None, **options: object) -> Result:
    """Answers one question: ``rlm.ask("Who is the captain?", text)``. Options as for ``RLM``."""
    with RLM(model, **options) as engine:  # type: ignore[arg-type]  # forwarded, and checked there
        return engine.run(query, context)


def _begin(work: Callable[[], T]) -> Future[T]:
    """Starts ``work`` in a thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, name="rlm-begin", daemon=True).start()
    return future
