"""The query functions that cells call: check arguments, make sub-calls, return or raise their outcomes.

The synchronous and the asynchronous forms share everything except the way they wait. This module must not know frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol, TypeVar

from ..failures import FailedCall, LLMQueryError, ToolError
from ..lookahead.copies import Copy
from ..lookahead.placeholders import exit_copy, unknown_value
from ..lookahead.prefetch import Prefetcher, key_of
from ..wire.values import type_name
from .feeds import BudgetFeed, Feed, Single, check_prompts
from .images import batch_with_images, with_images
from .open_calls import Calls, Group, Job, Outcome
from .options import Options, make_options, tool_names
from .socket_reader import SocketReader
from .waiters import LoopWaiter, ThreadWaiter, Waiter

W = TypeVar("W", bound=Waiter)
OnError = Literal["return", "raise"]

MAX_MODEL_CHARS = 10_000  # as many as the host accepts

NO_DEPTH = (
    "this REPL is at the depth limit of the run (max_depth): it cannot make sub-calls. Work on `context` with code and give "
    "the answer with FINAL(...)."
)


class AnyFeed(Protocol):
    """Makes the jobs of one caller; None if there are no more."""

    def take(self, group: Group, limit: int, options: bytes) -> Job | None: ...


class Queries:
    """The query functions of one REPL.

    ``before_wait`` runs before a call blocks, so that output is sent first. Without ``can_call`` all functions raise.

    A blocking single call or batch can have been prefetched, or can fork a lookahead copy that finds the next prompts
    (``lookahead.prefetch``). In such a copy it only reports the prompts. The asynchronous forms, and batches larger than a frame,
    run in parallel already, and end a copy.
    """

    def __init__(
        self,
        calls: Calls,
        reader: SocketReader,
        prefetcher: Prefetcher,
        before_wait: Callable[[], None],
    ) -> None:
        self._calls = calls
        self._reader = reader
        self._prefetcher = prefetcher
        self.can_call = False
        self._before_wait = before_wait

    def llm_query(
        self,
        prompt: str,
        *,
        context: object = None,
        model: str | None = None,
        schema: object = None,
        recursive: bool | None = None,
        images: object = None,
        tools: Iterable[object] = (),
    ) -> object:
        """Asks a model one prompt and waits for the reply. Raises LLMQueryError.

        ``images`` are images of the input that the model is shown.
        """
        options = self._check_options(model, schema, recursive, tools)
        if options.grants:
            return _value_of(self._run(Group(), Single(prompt, context), options.payload)[0], options)
        return self._ask_one(Single(prompt, with_images(context, images)), options)

    async def llm_query_async(
        self,
        prompt: str,
        *,
        context: object = None,
        model: str | None = None,
        schema: object = None,
        recursive: bool | None = None,
        images: object = None,
        tools: Iterable[object] = (),
    ) -> object:
        """Awaitable form of llm_query."""
        options = self._check_options(model, schema, recursive, tools)
        feed = Single(prompt, with_images(context, images))
        return _value_of((await self._run_async(Group(), feed, options.payload))[0], options)

    def llm_query_batch(
        self,
        prompts: Iterable[str],
        *,
        context: object = None,
        model: str | None = None,
        schema: object = None,
        recursive: bool | None = None,
        images: object = None,
        tools: Iterable[object] = (),
        on_error: OnError = "return",
    ) -> list[object]:
        """Asks all prompts at once. Returns the replies in the order of the prompts.

        A failed call is a FailedCall in its place. With on_error="raise", the first error is raised after all calls have ended.
        A ``context`` that is a list as long as ``prompts`` gives each prompt its own; any other value is shared by all.
        ``images`` are shown with every prompt, or with one prompt each if they are a list of lists as long as ``prompts``.
        """
        options = self._check_options(model, schema, recursive, tools, on_error)
        feed = Feed(*batch_with_images(check_prompts(prompts), context, images))
        if options.grants:
            granted = self._run(Group(self._calls.number_batch()), feed, options.payload)
            return _values_of(granted, options, on_error)
        if self._prefetcher.copy is not None:
            return self._note_batch(self._prefetcher.copy, feed, options)
        results = self._run_batch(feed, options.payload)
        return (
            _values_of(results, options, on_error)
            if results is not None
            else [unknown_value(options.schema) for _ in range(feed.taken)]
        )

    async def llm_query_batch_async(
        self,
        prompts: Iterable[str],
        *,
        context: object = None,
        model: str | None = None,
        schema: object = None,
        recursive: bool | None = None,
        images: object = None,
        tools: Iterable[object] = (),
        on_error: OnError = "return",
    ) -> list[object]:
        """Awaitable form of llm_query_batch."""
        options = self._check_options(model, schema, recursive, tools, on_error)
        feed = Feed(*batch_with_images(check_prompts(prompts), context, images))
        results = await self._run_async(Group(self._calls.number_batch()), feed, options.payload)
        return _values_of(results, options, on_error)

    def budget(self) -> object:
        """Returns the budget that is left: a dict of usd, tokens, calls, seconds and iterations. None means no limit."""
        self._check_place("budget")
        return _value_of(self._run(Group(), BudgetFeed(), b"")[0], Options())

    def call_tool(self, name: str, feed: AnyFeed) -> object:
        """Calls a tool of the host and waits for its result. Raises ToolError."""
        self._check_place(name)
        return _tool_result(self._run(Group(), feed, b"")[0])

    async def call_tool_async(self, name: str, feed: AnyFeed) -> object:
        """Awaitable form of ``call_tool``."""
        self._check_place(name)
        return _tool_result((await self._run_async(Group(), feed, b""))[0])

    def _check_place(self, name: str) -> None:
        if self._reader.guard.entered:
            raise LLMQueryError(f"{name}() cannot be called in a finalizer or a signal handler", "NotHere")

    def _check_options(
        self, model: object, schema: object, recursive: object, tools: Iterable[object], on_error: object = "return"
    ) -> Options:
        if not self.can_call:
            raise LLMQueryError(NO_DEPTH, "DepthLimit")
        if self._reader.guard.entered:
            raise LLMQueryError("sub-calls cannot be made in a finalizer or a signal handler", "NotHere")
        if model is not None and not isinstance(model, str):
            raise TypeError(f"model must be a str or None, not {type_name(model)}")
        if isinstance(model, str) and str.__len__(model) > MAX_MODEL_CHARS:
            raise ValueError(
                f"model must be a name of at most {MAX_MODEL_CHARS:,} characters; got {str.__len__(model):,}"
            )
        if recursive not in (None, True, False):
            raise TypeError("recursive must be True, False or None")
        if on_error not in ("return", "raise"):
            raise ValueError('on_error must be "return" or "raise"')
        return make_options(model, schema, None if recursive is None else bool(recursive), tool_names(tools))

    def _ask_one(self, feed: Single, options: Options) -> object:
        group, prefetcher = Group(), self._prefetcher
        job = feed.take(group, 1, options.payload)
        if prefetcher.copy is not None:
            prefetcher.copy.ask(key_of(job, is_batch=False))
            return unknown_value(options.schema)
        self._before_wait()
        try:
            with self._reader.guard:
                prefetched = prefetcher.take(job)
                if prefetched is None:
                    self._calls.start(job)
                else:
                    group = prefetched
            waiter = ThreadWaiter()
            if self._calls.park(group, waiter):
                if prefetched is None and prefetcher.fork(waiter):
                    return unknown_value(options.schema)
                self._reader.wait(waiter)
        except BaseException:
            self._calls.abandon(group)
            raise
        group.taken = True
        return _value_of(group.results[0], options)

    def _note_batch(self, copy: Copy, feed: Feed, options: Options) -> list[object]:
        """Reports a batch in a lookahead copy: as a whole, or not at all."""
        group, limit = Group(), self._prefetcher.limit
        job = feed.take(group, limit, options.payload)
        if not group.fed:
            exit_copy()
        if job is not None:
            copy.ask(key_of(job, is_batch=True), feed.taken)
        return [unknown_value(options.schema) for _ in range(feed.taken)]

    def _run_batch(self, feed: Feed, options: bytes) -> dict[int, Outcome] | None:
        """Runs a blocking batch. Returns None in a lookahead copy that was forked meanwhile."""
        group, prefetcher = Group(self._calls.number_batch()), self._prefetcher
        limit = min(prefetcher.limit, self._calls.window)
        if not limit:
            return self._run(group, feed, options)
        self._before_wait()
        job = feed.take(group, limit, options)
        prefetched = None
        try:
            if job is not None:
                with self._reader.guard:
                    prefetched = prefetcher.take(job, is_batch=True) if group.fed else None
                    if prefetched is None:
                        self._calls.start(job)
                    else:
                        group = prefetched
            for waiter in self._drive(group, feed, options, ThreadWaiter):
                if prefetched is None and group.fed and feed.taken < limit and prefetcher.fork(waiter):
                    return None
                self._reader.wait(waiter)
        except BaseException:
            self._calls.abandon(group)
            raise
        return group.results

    def _run(self, group: Group, feed: AnyFeed, options: bytes) -> dict[int, Outcome]:
        self._end_copy()
        self._before_wait()
        try:
            for waiter in self._drive(group, feed, options, ThreadWaiter):
                self._reader.wait(waiter)
        except BaseException:
            self._calls.abandon(group)
            raise
        return group.results

    async def _run_async(self, group: Group, feed: AnyFeed, options: bytes) -> dict[int, Outcome]:
        self._end_copy()
        loop = asyncio.get_running_loop()
        self._before_wait()
        self._reader.watch(loop)
        try:
            for waiter in self._drive(group, feed, options, lambda: LoopWaiter(loop)):
                await waiter.future
        except BaseException:
            self._calls.abandon(group)
            raise
        finally:
            self._reader.unwatch(loop)
        return group.results

    def _end_copy(self) -> None:
        if self._prefetcher.copy is not None:
            exit_copy()

    def _drive(self, group: Group, feed: AnyFeed, options: bytes, make_waiter: Callable[[], W]) -> Iterator[W]:
        """Feeds a group until it is complete. The caller must wait for each yielded waiter before it continues."""
        while not group.complete:
            if not group.fed and self._calls.has_room:
                job = feed.take(group, self._calls.room(), options)
                if job is not None:
                    self._calls.start(job)
                continue
            waiter = make_waiter()
            if self._calls.park(group, waiter):
                yield waiter
        group.taken = True


def _tool_result(outcome: Outcome) -> object:
    if isinstance(outcome, (LLMQueryError, ToolError)):
        raise outcome
    return outcome


def _value_of(outcome: Outcome, options: Options) -> object:
    value = options.build(outcome)
    if isinstance(value, LLMQueryError):
        raise value
    return value


def _values_of(results: dict[int, Outcome], options: Options, on_error: OnError) -> list[object]:
    values = [options.build(results[index]) for index in range(len(results))]
    if on_error == "raise":
        for value in values:
            if isinstance(value, LLMQueryError):
                raise value
    return [FailedCall.of(value) if isinstance(value, LLMQueryError) else value for value in values]
