"""Arms: the methods under comparison, each with the same items, settings and budgets.

    direct                  one call with the whole context in the prompt.
    code                    the same, in a REPL: the context in the prompt and as a variable, and no sub-calls.
    rlm:D                   an RLM of depth D (0 to 9): the context as a variable only.
    reference:D             the reference root at depth D with a perfect leaf; with @MODEL, a real model as its leaf.

The syntax is ``KIND[@MODEL[+SUB_MODEL]][=BASE_URL]``; omitted parts come from the run. Any OpenAI-compatible endpoint is an arm:
``direct@openai:my-agent=http://localhost:8000/v1``.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol, TypeAlias

from rlm.api import RLM
from rlm.core.budget import Budget
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, ModelError, RLMError
from rlm.core.ids import ROOT
from rlm.core.messages import JsonValue, Message, Reply, Request, Usage
from rlm.core.result import Result
from rlm.models.prices import PriceList
from rlm.models.registry import open_model
from rlm.ports import Model
from rlm.scheduler.retries import RetryPolicy
from rlm.scheduler.scheduler import RunScheduler
from rlm_evals.item import Item
from rlm_evals.labels import Labelling, measure_labels
from rlm_evals.reference.leaf import ReferenceLeaf
from rlm_evals.reference.root import ReferenceRoot, program

ArmKind: TypeAlias = Literal["direct", "code", "rlm", "reference"]

_ARM = re.compile(
    r"(?P<kind>direct|code|rlm:\d|reference:\d)(?:@(?P<model>[^+=]+)(?:\+(?P<sub>[^=]+))?)?(?:=(?P<url>https?://.+))?"
)


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """A parsed arm. ``name`` is its text as given, and its key in results."""

    name: str
    kind: ArmKind
    depth: int = 0
    model: str | None = None
    sub_model: str | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """Settings shared by all arms. ``usd``, ``tokens``, ``calls``, ``iterations`` and ``seconds`` limit one item."""

    model: str | None = None
    sub_model: str | None = None
    base_url: str | None = None
    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None
    iterations: int = 20
    seconds: float = 3600.0
    temperature: float | None = None
    max_output_tokens: int | None = None
    concurrency: int = 64
    retries: int = 5
    sandbox: str = "auto"
    rows_per_prompt: int = 40
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)


GRACE_S = 60.0  # beyond the engine's own time limit and its last turn; ends an item that hangs

GENERATOR = 1
"""Version of the generators: incremented when the same task, length and seed give other items."""


def describe_terms(terms: Terms) -> dict[str, JsonValue]:
    """Options that affect results, for the head of a results file. Concurrency and sandbox level are excluded."""
    options: dict[str, JsonValue] = {
        field.name: getattr(terms, field.name)
        for field in fields(terms)
        if field.name not in ("concurrency", "sandbox", "prices")
    }
    return {**options, "prices": {name: list(prices) for name, prices in terms.prices.items()}, "generator": GENERATOR}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of one item in one arm. ``error`` is a class name, with status "failed"."""

    answer: PlainValue
    status: str
    usage: Usage
    cost_usd: float | None
    elapsed_s: float
    error: str | None = None
    message: str | None = None
    limit: str | None = None
    labelling: Labelling = Labelling()
    run_id: str = ""


class Arm(Protocol):
    """A method that answers items. ``models`` appear in the results."""

    @property
    def models(self) -> tuple[str, ...]: ...

    async def answer(self, item: Item) -> Outcome:
        """Answers one item. A failure of this item alone becomes a failed outcome.

        Raises:
            RLMError: a failure of every item: a refused key, no credit, no sandbox.
        """
        ...

    async def aclose(self) -> None: ...


def parse_arm(text: str) -> ArmSpec:
    """Parses the text of an arm.

    Raises:
        ConfigurationError: the text is not an arm.
    """
    match = _ARM.fullmatch(text.strip())
    if not match:
        raise ConfigurationError(
            "an arm must be direct, code, rlm:DEPTH or reference:DEPTH, with optional @MODEL[+SUB_MODEL] and =BASE_URL; "
            f"got {text!r}."
        )
    kind, _, depth = match["kind"].partition(":")
    spec = ArmSpec(text.strip(), kind, int(depth or 0), match["model"], match["sub"], match["url"])  # type: ignore[arg-type]
    if spec.kind == "reference" and spec.depth < 1:
        raise ConfigurationError(
            "the depth of a reference arm must be at least 1, because its sub-calls read the text; got 0. Use reference:1."
        )
    return spec


def open_arm(spec: ArmSpec, terms: Terms) -> Arm:
    """Opens an arm without sending anything.

    Raises:
        ConfigurationError: neither the arm nor the run names a model.
    """
    if spec.kind == "reference":
        return ReferenceArm(spec, terms)
    model, sub_model = spec.model or terms.model, spec.sub_model or (None if spec.model else terms.sub_model)
    base_url = spec.base_url or (None if spec.model else terms.base_url)
    if model is None:
        raise ConfigurationError(
            f"{spec.name} needs a model. Pass --model for all arms, or {spec.name}@provider:model."
        )
    if spec.kind == "direct":
        return DirectArm(open_model(model, base_url=base_url, timeout_s=terms.seconds + GRACE_S), terms)
    depth = spec.depth if spec.kind == "rlm" else 0
    names = (model, *([sub_model] if sub_model and depth else []))
    engine = _open_engine(
        terms, model=model, sub_model=sub_model if depth else None, base_url=base_url, max_depth=depth
    )
    return EngineArm(engine, names, terms.seconds, context_in_prompt=spec.kind == "code")


def _open_engine(
    terms: Terms,
    *,
    max_depth: int,
    model: str | None = None,
    sub_model: str | None = None,
    models: list[str | Model] | None = None,
    base_url: str | None = None,
    setup_code: str | None = None,
) -> RLM:
    return RLM(
        model,
        sub_model=sub_model,
        models=models,
        base_url=base_url,
        max_depth=max_depth,
        setup_code=setup_code,
        max_iterations=terms.iterations,
        budget=Budget(usd=terms.usd, tokens=terms.tokens, calls=terms.calls, seconds=terms.seconds),
        sandbox=terms.sandbox,
        concurrency=terms.concurrency,
        retries=terms.retries,
        temperature=terms.temperature,
        max_output_tokens=terms.max_output_tokens,
        prices={"reference:root": (0.0, 0.0), "reference:leaf": (0.0, 0.0), **terms.prices},
    )


class EngineArm:
    """Arm that runs an RLM."""

    def __init__(self, engine: RLM, models: tuple[str, ...], seconds: float, *, context_in_prompt: bool) -> None:
        self._engine = engine
        self.models = models
        self._seconds = seconds
        self._context_in_prompt = context_in_prompt

    async def answer(self, item: Item) -> Outcome:
        question = item.direct_prompt if self._context_in_prompt else item.question
        return await run_engine(self._engine, question, item, self._seconds)

    async def aclose(self) -> None:
        await self._engine.aclose()


class ReferenceArm:
    """Arm that runs the reference root. Its perfect leaf holds the labels of one item, so each item has its own engine."""

    def __init__(self, spec: ArmSpec, terms: Terms) -> None:
        self._spec = spec
        self._terms = terms
        self._leaf = open_model(spec.model, base_url=spec.base_url) if spec.model else None
        self.models = ("reference:root", spec.model or "reference:leaf")

    async def answer(self, item: Item) -> Outcome:
        if item.scorer in ("oolong", "pairs") and not item.labels and self._leaf is None:
            raise ConfigurationError(
                f"the reference leaf needs labels; {item.id} has none. Use another item, or a real model as the leaf."
            )
        leaf = self._leaf or ReferenceLeaf(item.labels)
        root = ReferenceRoot(rows_per_prompt=self._terms.rows_per_prompt)
        models: list[str | Model] = [*[root] * self._spec.depth, leaf]
        engine = _open_engine(self._terms, max_depth=self._spec.depth, models=models, setup_code=program())
        try:
            return await run_engine(engine, item.question, item, self._terms.seconds)
        finally:
            await engine.aclose()

    async def aclose(self) -> None:
        if self._leaf:
            await self._leaf.aclose()


async def run_engine(engine: RLM, question: str, item: Item, seconds: float) -> Outcome:
    """Runs an engine on one item, on the engine's loop."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            result = await engine.execute(question, item.context)
    except TimeoutError:
        return _failure("Timeout", f"no answer within {seconds + GRACE_S:g} s", None, item, began)
    except RLMError as error:
        if _ends_everything(error):
            raise
        return _failure(type(error).__name__, str(error), error.result, item, began)
    return Outcome(
        answer=result.answer,
        status=result.status,
        usage=result.usage.total.usage,
        cost_usd=result.cost_usd,
        elapsed_s=time.monotonic() - began,
        limit=result.limit,
        labelling=measure_labels(item.labels, result.tree),
        run_id=result.run_id,
    )


def _failure(kind: str, message: str, result: Result | None, item: Item, began: float) -> Outcome:
    return Outcome(
        answer=None,
        status="failed",
        usage=result.usage.total.usage if result else Usage(),
        cost_usd=result.cost_usd if result else None,
        elapsed_s=time.monotonic() - began,
        error=kind,
        message=message[:300],
        labelling=measure_labels(item.labels, result.tree if result else None),
        run_id=result.run_id if result else "",
    )


def _ends_everything(error: RLMError) -> bool:
    return isinstance(error, ConfigurationError) or (isinstance(error, ModelError) and error.ends_run)


class DirectArm:
    """Arm that sends one call with the whole context, under the engine's slots and retries."""

    def __init__(self, model: Model, terms: Terms) -> None:
        self._model = model
        self._terms = terms
        self._prices = PriceList(dict(terms.prices))
        self.models = (model.name,)
        self._scheduler = RunScheduler(
            concurrency=terms.concurrency,
            policy=RetryPolicy(retries=terms.retries),
        )

    async def answer(self, item: Item) -> Outcome:
        began = time.monotonic()
        request = Request(
            (Message("user", item.direct_prompt),),
            temperature=self._terms.temperature,
            max_output_tokens=self._terms.max_output_tokens,
        )
        seconds = self._terms.seconds
        try:
            async with asyncio.timeout(seconds):
                reply = await self._ask(request)
        except TimeoutError:
            return _failure("Timeout", f"no answer within {seconds:g} s", None, item, began)
        except ModelError as error:
            if error.ends_run:
                raise
            usage = error.usage or Usage()
            cost = self._prices.cost_usd(self._model.name, usage) if error.usage else None
            kind, message = type(error).__name__, str(error)[:300]
            return Outcome(None, "failed", usage, cost, time.monotonic() - began, error=kind, message=message)
        cost = reply.cost_usd if reply.cost_usd is not None else self._prices.cost_usd(self._model.name, reply.usage)
        return Outcome(reply.text, "complete", reply.usage, cost, time.monotonic() - began)

    async def _ask(self, request: Request) -> Reply:
        """Make attempts as the engine does, without a budget and events. The item's time limit is the only one.

        Raises:
            ModelError: the last attempt's.
        """
        slot = None
        while True:
            slot = await self._scheduler.acquire(self._model, request, ROOT, slot)
            try:
                reply = await self._model.ask(request)
            except ModelError as error:
                delay_s = slot.failed(error)
                if delay_s is None:
                    raise
            else:
                slot.succeeded(reply)
                return reply
            finally:
                slot.release()
            await asyncio.sleep(delay_s)

    async def aclose(self) -> None:
        await self._model.aclose()
