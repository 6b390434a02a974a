"""The ports: the whole architecture on one page. The engine knows these Protocols and nothing behind them.

engine ──> Model      a provider, a local model, a plan, a script: one attempt at one reply, streamed if it can.
       ──> Scheduler  decides when an attempt is sent, and whether a failed one is retried.
       ──> Sandbox    opens REPLs, each a confined process that executes cells.
       ──> Tool       a function of the user's program that cells can call.
       ──> Sink       receives every event, in order: views, totals.
       ──> Journal    stores every event, so that a run can be resumed and replayed.
runtime ──> Store     all stored runs, and cached answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.errors import ModelError
from rlm.core.events import AnyEvent
from rlm.core.ids import NodeId, RunId
from rlm.core.messages import JsonValue, Reply, Request
from rlm.core.model_info import ModelInfo
from rlm.core.question import Question
from rlm.core.repl_spec import ReplSpec, ReplVariables
from rlm.core.runs import ContextInfo, RunInfo
from rlm.core.subcalls import Subcall, SubcallOutcome
from rlm.core.tools import ToolSpec


class Model(Protocol):
    """Answers requests. Objects with ``name``, ``window_tokens`` and ``ask`` become one by ``rlm.models.adapt.adapt_model``."""

    @property
    def name(self) -> str:
        """The full name, ``provider:model``."""
        ...

    @property
    def info(self) -> ModelInfo:
        """Static facts: window, slots, prefix caching, streams, images."""
        ...

    async def ask(self, request: Request) -> Reply:
        """One attempt at one reply.

        Raises:
            ModelError: for anything but a complete, non-empty reply. An error is never returned as text.
        """
        ...

    async def aclose(self) -> None:
        """Releases connections, processes and weights. Safe to call twice."""
        ...


OnText = Callable[[str], bool]
"""Receives each piece of a reply's text as it arrives; returns True when it needs no more."""


class StreamingModel(Model, Protocol):
    """A model that can stream its replies; its ``info.streams`` is True."""

    async def stream(self, request: Request, on_text: OnText) -> Reply:
        """Like ``ask``, and passes each piece of the text to ``on_text``. A reply that arrives whole is not passed.

        After ``on_text`` has returned True, the rest of the stream is drained for the usage at its end. It is dropped if
        the usage so far is exact. Either way, the reply's text can end at the cut. A stream that breaks off after the cut
        is still an error, because its cost is unknown.

        Raises:
            ModelError: as ``ask``.
        """
        ...


def can_stream(model: Model) -> TypeGuard[StreamingModel]:
    """True if the model has ``stream``."""
    return model.info.streams


class Slot(Protocol):
    """The place of one attempt among a model's calls in flight. The engine reports the outcome, then releases it."""

    @property
    def timeout_s(self) -> float:
        """Deadline of the attempt, from sending it to the complete reply. It adapts to the model's usual latency."""
        ...

    @property
    def straggler_s(self) -> float | None:
        """Seconds after which the attempt takes far longer than comparable calls. None while too little is known."""
        ...

    def succeeded(self, reply: Reply) -> None:
        """Record the attempt's reply."""
        ...

    def failed(self, error: ModelError) -> float | None:
        """Record the attempt's failure.

        Returns:
            The delay before the next attempt in seconds, or None if the call is not retried.
        """
        ...

    def release(self) -> None:
        """Return the slot. Call it exactly once."""
        ...


class Scheduler(Protocol):
    """Decides when a run's attempts are sent and which failures are retried. It never calls a model.

    Attributes:
        call_timeout_s: the longest deadline of an attempt.
    """

    @property
    def call_timeout_s(self) -> float: ...

    async def acquire(self, model: Model, request: Request, node: NodeId, after: Any = None) -> Slot:
        """Wait until an attempt can be sent. ``after`` is the slot of the call's failed attempt.

        Raises:
            ModelError: the provider has refused every call for as long as the run allows.
        """
        ...

    def try_acquire(self, model: Model, request: Request) -> Slot | None:
        """A slot for an attempt that can be sent now, or None. Never waits."""
        ...


ServeSubcall = Callable[[Subcall], Awaitable[SubcallOutcome]]
"""Answers one sub-call of a REPL; given by the engine. An exception that it raises is an error of the run."""

Flush = Callable[[], None]
"""Makes everything that happened so far durable; given by the engine. An exception that it raises is an error of the run."""


class Repl(Protocol):
    """One node's REPL: a namespace in a confined process. It executes one cell at a time."""

    async def execute(self, cell: Cell, serve: ServeSubcall, flush: Flush | None = None) -> CellResult:
        """Runs a cell to its end, and answers its sub-calls through ``serve``, each in its own task.

        ``flush`` is called once before each group of answers is sent to the cell; an exception of it ends the cell.
        Cancelling this coroutine stops the cell and its open sub-calls. The REPL can then only be closed.

        Raises:
            SandboxError: the REPL is gone and could not be replaced.
        """
        ...

    async def read(self, name: str) -> PlainValue:
        """Returns the value of a variable.

        Raises:
            KeyError: the variable does not exist.
            SandboxError: the REPL is gone.
        """
        ...

    def stop(self, patience_s: float | None = None) -> None:
        """Stops the running cell, if any: by interrupts, and soon after by force. ``patience_s`` is the time between those.

        ``execute`` then returns a result with the end "interrupted", unless the cell ended by itself first. Variables survive
        if the interrupt was enough.
        """
        ...

    async def variables(self) -> ReplVariables:
        """Returns all variables that code has defined. A value too large to send is replaced by its cut ``repr``."""
        ...

    async def aclose(self) -> None:
        """Ends the process. Safe to call twice, and while a cell runs."""
        ...


class Sandbox(Protocol):
    """Opens REPLs. ``level`` names the isolation in force."""

    @property
    def level(self) -> str: ...

    async def open(self, spec: ReplSpec) -> Repl:
        """Opens a REPL that holds ``spec.context`` as ``context``.

        Raises:
            ContextError: the context cannot enter the sandbox.
            SandboxUnavailableError: no process could be started.
        """
        ...

    async def aclose(self) -> None:
        """Closes every REPL. Safe to call twice."""
        ...


@runtime_checkable
class Tool(Protocol):
    """A function of the user's program that cells can call. It is executed in the user's process."""

    @property
    def spec(self) -> ToolSpec: ...

    async def call(
        self, args: Sequence[PlainValue], kwargs: Mapping[str, PlainValue], start: Callable[[], None]
    ) -> PlainValue:
        """Checks the arguments, waits for its turn, calls ``start`` immediately before it executes, and returns plain data.

        If ``start`` raises, nothing is executed. Arguments are hostile input.

        Raises:
            ToolFailure: it was not executed, or it failed.
        """
        ...


class ToolSession(Protocol):
    """The tools of a source that was opened for one run."""

    @property
    def tools(self) -> Sequence[Tool]: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class ToolSource(Protocol):
    """Provides tools for the duration of a run, for instance those of a server."""

    async def open(self) -> ToolSession:
        """Opens the source for one run.

        Raises:
            ToolSourceError: it cannot be opened.
        """
        ...


class Sink(Protocol):
    """Receives every event of a run, in order, on the engine's loop. Must not block."""

    def emit(self, event: AnyEvent) -> None: ...


EventCallback: TypeAlias = Callable[[AnyEvent], object]
"""A plain function in place of a sink."""

SinkLike: TypeAlias = Sink | EventCallback


class JournalOpener(Protocol):
    """Opens the journal of one run."""

    async def begin(self, question: Question) -> Journal | None:
        """Awaited once, before the first event. None: nothing is stored.

        Raises:
            StoreError: the store that was asked for cannot be written.
        """
        ...


class Journal(Protocol):
    """Stores the events of one run. Unlike a sink it is part of the run: if it fails, the run ends."""

    def append(self, event: AnyEvent) -> None:
        """Takes an event, in order. Must not block; ``flush`` raises its errors."""
        ...

    def flush(self) -> None:
        """Makes everything appended so far survive the end of this process.

        Raises:
            StoreError: the journal cannot be written.
        """
        ...

    def end(self) -> None:
        """Called once, after the last event, however the run ended."""
        ...


class Store(Protocol):
    """Runs with their events, and cached answers. Safe to use from any thread."""

    @property
    def place(self) -> str:
        """Its path or address, for messages."""
        ...

    def begin_run(
        self,
        run: RunId,
        question: str,
        options: Mapping[str, JsonValue],
        context: ContextInfo,
        *,
        keep_texts: bool = True,
        secrets: Sequence[str] = (),
    ) -> Journal:
        """The journal of a new run. ``keep_texts=False`` stores hashes and numbers only; ``secrets`` are never written.

        Raises:
            StoreError: the store cannot be written.
        """
        ...

    def resume_run(
        self,
        run: RunId,
        options: Mapping[str, JsonValue] | None = None,
        *,
        revision: int | None = None,
        secrets: Sequence[str] = (),
    ) -> Journal:
        """The journal of a run that no living process writes.

        Args:
            run: its id.
            options: replace the run's options of the same names.
            revision: the run's revision when its events were read; nothing must have been written since.
            secrets: never written.

        Raises:
            UnknownRunError: there is no such run.
            StoreError: another process writes it, or has written it since.
        """
        ...

    def note_context(self, run: RunId, context: ContextInfo) -> None:
        """Adds size and hash of a context that was too large to be hashed before the run started."""
        ...

    def runs(self) -> Sequence[RunInfo]:
        """All runs, the newest first."""
        ...

    def find(self, run: str) -> RunInfo:
        """The run with this id, or the only one whose id starts with it; "last" is the newest.

        Raises:
            UnknownRunError: there is none, or several.
        """
        ...

    def revision(self, run: RunId) -> int:
        """A number that grows whenever the run's events do; 0 for an unknown run."""
        ...

    def events(self, run: RunId, *, lenient: bool = False) -> Sequence[AnyEvent]:
        """The events of a run, in order. ``lenient`` puts a mark in place of texts that were not stored.

        Raises:
            UnknownRunError: there is no such run.
            IncompleteRecordError: its texts were not stored.
        """
        ...

    def context(self, info: RunInfo) -> PlainValue:
        """The context of a run.

        Raises:
            IncompleteRecordError: it was not stored.
        """
        ...

    def delete(self, runs: Sequence[RunId]) -> None:
        """Deletes runs with all they hold. Unknown ones are ignored."""
        ...

    def size(self) -> int:
        """Bytes in use."""
        ...

    def cached_answer(self, key: bytes) -> str | None: ...

    def cache_answer(self, key: bytes, reply: str) -> None: ...

    def abandon(self) -> None:
        """In a forked child: leaves everything that is open to the parent."""
        ...

    def close(self) -> None:
        """Writes what is pending and releases files and connections."""
        ...


class AnswerCache(Protocol):
    """Answers of leaf calls, shared by runs. ``occurrence`` counts equal requests of one run, from 1."""

    async def get(self, model: Model, request: Request, occurrence: int) -> Reply | None: ...

    def put(self, model: Model, request: Request, occurrence: int, reply: Reply) -> None: ...
