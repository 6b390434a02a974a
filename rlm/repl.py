"""``REPLEnv``: a REPL for code that you write yourself, with the confined worker, sub-calls and limits of a run."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import field
from typing import Any, TypeVar

from rlm.api import RLM
from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.errors import AuthenticationError, ConfigurationError
from rlm.core.messages import Reply, Request, Usage
from rlm.core.model_info import ModelInfo
from rlm.core.question import Question
from rlm.core.repl_spec import ReplVariables
from rlm.core.values import frozen
from rlm.engine.run import Run
from rlm.ports import Model, Repl
from rlm.rlm_repl import RLM_REPL
from rlm.runtime.loop import BACKGROUND
from rlm.views.plain import PlainView

T = TypeVar("T")


@frozen
class REPLResult:
    """The outcome of a piece of code.

    Attributes:
        stdout: its printed output, and the value of a last expression.
        stderr: its error output, and the traceback of an exception.
        locals: the variables defined so far; objects other than plain data as text.
        execution_time: seconds, sub-calls included.
        answer: the value given to FINAL, or None.
    """

    stdout: str
    stderr: str
    locals: ReplVariables = field(default_factory=dict)
    execution_time: float = 0.0
    answer: PlainValue = None


class REPLEnv:
    """A REPL with ``context`` and the query functions, for code that you write yourself.

    Args:
        recursive_model: the model of sub-calls.
        context_json: the context as list or dict.
        context_str: the context as text; at most one of the two.
        depth: the depth of this REPL.
        max_depth: as for ``RLM_REPL``: a sub-call becomes an RLM of its own if ``depth + 1 < max_depth``.
        enable_logging: log events to stderr.
        parent_rlm_class: the class of nested RLMs: ``RLM_REPL``, or any class with its constructor and ``completion``. Without
            it, all sub-calls are plain model calls.
        setup_code: code that runs first.
        options: all other options of ``rlm.RLM``, for instance ``api_key``, ``base_url`` or ``cell_seconds``.

    It needs no API key until its code asks a model.
    Use it as a context manager, or ``close()`` it: it holds a process.
    """

    def __init__(  # noqa: PLR0917  the order is part of the public API
        self,
        recursive_model: str = "gpt-4o-mini",
        context_json: PlainValue = None,
        context_str: str | None = None,
        depth: int = 0,
        max_depth: int = 1,
        enable_logging: bool = False,
        parent_rlm_class: type[Any] | None = None,
        setup_code: str | None = None,
        **options: Any,
    ) -> None:
        if context_json is not None and context_str is not None:
            raise ConfigurationError("`context_json` must not be combined with `context_str`: there is one `context`.")
        model: str | Model = recursive_model
        levels = min(max_depth, depth + 1) if parent_rlm_class is None else max_depth
        if parent_rlm_class is not None and depth + 1 < max_depth and not _is_native(parent_rlm_class):
            nested = parent_rlm_class(
                model=recursive_model,
                recursive_model=recursive_model,
                depth=depth + 1,
                max_depth=max_depth,
                enable_logging=enable_logging,
            )
            model, levels = CompletionModel(nested), depth + 1
        options |= {"max_depth": levels, "setup_code": setup_code}
        try:
            self._engine = RLM(model, **options)
        except AuthenticationError as error:
            self._engine = RLM(KeylessModel(recursive_model, error), **options)
        self._context = context_str if context_str is not None else context_json
        self._open = ExitStack()
        sinks = [self._open.enter_context(PlainView(sys.stderr))] if enable_logging else []
        self._run: Run = self._engine.prepare(Question("", self._context, depth=depth), sinks)
        self._repl: Repl | None = None
        self._cells = 0
        self._lock = threading.Lock()

    def code_execution(self, code: str) -> REPLResult:
        """Executes code in this REPL; its variables remain for later code.

        Raises:
            RLMError: the sandbox or a provider failed. An exception in the code is not raised: see ``stderr``.
        """
        with self._lock:
            self._cells += 1
            result, variables = self._wait(self._execute(Cell(1, self._cells, code)))
        return REPLResult(
            stdout=_join(result.stdout, result.echo),
            stderr=_join(result.stderr, result.traceback or result.error, *result.notes),
            locals=variables,
            execution_time=result.elapsed_s,
            answer=result.answer.value if result.answer else None,
        )

    def close(self) -> None:
        """Ends the REPL's process."""
        with self._open:
            self._wait(self._close())

    def __enter__(self) -> REPLEnv:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _execute(self, cell: Cell) -> tuple[CellResult, ReplVariables]:
        job = self._run.root_job()
        if self._repl is None:
            self._run.recorder.start()
            self._run.begin()
            self._repl = await self._run.tree.open(job)
        result = await self._run.tree.execute(job, self._repl, cell)
        return result, await self._repl.variables()

    async def _close(self) -> None:
        if self._repl is not None:
            await self._repl.aclose()
        await self._engine.aclose()

    @staticmethod
    def _wait(work: Coroutine[Any, Any, T]) -> T:
        return BACKGROUND.wait(work)


class KeylessModel:
    """A model whose key is missing. Every call raises the error that opening it raised."""

    info = ModelInfo(window_tokens=1_000_000)

    def __init__(self, name: str, error: AuthenticationError) -> None:
        self.name = name
        self._error = error

    async def ask(self, request: Request) -> Reply:
        raise AuthenticationError(str(self._error), model=self.name)

    async def aclose(self) -> None:
        pass


class CompletionModel:
    """A model from any object with ``completion(context, query=None) -> str``. Its calls count; its tokens are unknown."""

    info = ModelInfo(window_tokens=1_000_000)

    def __init__(self, nested: Any) -> None:
        self._nested = nested
        self.name = f"class:{type(nested).__name__}"

    async def ask(self, request: Request) -> Reply:
        text = await _in_own_thread(lambda: self._nested.completion(request.messages[-1].text))
        return Reply(str(text), Usage(calls=1), self.name)

    async def aclose(self) -> None:
        pass


async def _in_own_thread(work: Callable[[], T]) -> T:
    """Runs blocking work in a new thread: a pool of fixed size would deadlock on nested work."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  raised by the awaiting task
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)


def _is_native(parent_rlm_class: type[Any]) -> bool:
    return issubclass(parent_rlm_class, RLM_REPL) and parent_rlm_class.completion is RLM_REPL.completion


def _join(*parts: str | None) -> str:
    return "\n".join(part.rstrip("\n") for part in parts if part)
