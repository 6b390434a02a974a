"""Tools made of functions: their declaration, and their execution."""

from __future__ import annotations

import asyncio
import builtins
import inspect
import keyword
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal, TypedDict, Unpack, cast, overload

from rlm.core.errors import ConfigurationError
from rlm.core.option import show_given
from rlm.core.plain_repr import plain_repr
from rlm.core.tools import ParameterKind, ToolFailure, ToolParameter, ToolSpec, cut_end, one_line
from rlm.tools.annotations import Mismatch, check_of, describe, hints_of, inner_function
from rlm.tools.execution import LOOP, THREADS, Slots
from rlm.tools.results import failed, to_plain

TIMEOUT_S = 300.0
CONCURRENCY = 16
MAX_DOC_CHARS = 10_000
MAX_DEFAULT_CHARS = 60
MAX_NAME_CHARS = 64
INLINE_PARTS = 200  # arguments with more are checked in a thread

RESERVED = frozenset({
    "llm_query", "llm_query_async", "llm_query_batch", "llm_query_batch_async", "llm_query_batched", "rlm_query",
    "rlm_query_batched", "FINAL", "FINAL_VAR", "SUBMIT", "SHOW_VARS", "LLMQueryError", "BudgetExceeded", "FailedCall",
    "ToolError", "budget", "cite", "context", "answer", "grep", "search", "where", "pages", "tables", "table", "sql",
})  # fmt: skip
"""The names that the REPL itself defines."""

KINDS: dict[ParameterKind, Any] = {
    "positional": inspect.Parameter.POSITIONAL_ONLY,
    "any": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "rest": inspect.Parameter.VAR_POSITIONAL,
    "keyword": inspect.Parameter.KEYWORD_ONLY,
    "named": inspect.Parameter.VAR_KEYWORD,
}
_KIND_OF = {kind: name for name, kind in KINDS.items()}


class FunctionTool:
    """Implements ``rlm.ports.Tool`` with a function, and can be called like it."""

    def __init__(self, function: Callable[..., Any], spec: ToolSpec, timeout_s: float | None, concurrency: int) -> None:
        self.function = function
        self.spec = spec
        self.timeout_s = timeout_s
        self._slots = Slots(concurrency)
        self._signature = inspect.signature(function)
        hints = hints_of(function, spec.tool)
        names = getattr(inner_function(function), "__globals__", {})
        self._checks = {
            name: check_of(
                hints.get(name, inspect.Parameter.empty), f"The parameter `{name}` of the tool {spec.tool}", names
            )
            for name in self._signature.parameters
        }
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004
        )
        self.__name__ = spec.tool
        self.__doc__ = spec.doc

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function in this process, without any check."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<rlm.tool {self.spec.tool}{self.spec.signature}>"

    async def call(self, args: Sequence[object], kwargs: Mapping[str, object], start: Callable[[], None]) -> object:
        """See ``rlm.ports.Tool.call``."""
        if _is_small(args, kwargs):
            bound = self.bind(args, kwargs)
        else:
            bound = await asyncio.to_thread(self.bind, args, kwargs)
        await self._slots.acquire()
        try:
            start()
        except BaseException:
            self._slots.release()
            raise
        return await self._execute(bound)

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> inspect.BoundArguments:
        """Checks arguments against the signature and its annotations.

        Raises:
            ToolFailure: they do not fit.
        """
        tool = self.spec.tool
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ToolFailure("TypeError", f"{tool}: {error}") from None
        for name, value in bound.arguments.items():
            kind, check = self._signature.parameters[name].kind, self._checks[name]
            try:
                if kind is inspect.Parameter.VAR_POSITIONAL:
                    bound.arguments[name] = tuple(check(item) for item in value)
                elif kind is inspect.Parameter.VAR_KEYWORD:
                    bound.arguments[name] = {key: check(item) for key, item in value.items()}
                else:
                    bound.arguments[name] = check(value)
            except Mismatch as mismatch:
                raise ToolFailure("TypeError", f"{tool}: `{name}`{mismatch.path} {mismatch}") from None
            except RecursionError:
                raise ToolFailure("TypeError", f"{tool}: `{name}` is nested too deep") from None
        return bound

    async def _execute(self, bound: inspect.BoundArguments) -> object:
        """Executes the function, whose slot is held, and returns its plain result."""
        future = LOOP.submit(self._run_async(bound)) if self._is_async else THREADS.submit(lambda: self._run(bound))
        lease = _Lease(self._slots, future)
        waiter = asyncio.wrap_future(future)
        try:
            async with asyncio.timeout(self.timeout_s):
                # A thread cannot be cancelled: only the wait for it ends.
                return await (waiter if self._is_async else asyncio.shield(waiter))
        except TimeoutError:
            lease.leave()
            raise ToolFailure(
                "TimeoutError",
                f"{self.spec.tool}: it did not end within {self.timeout_s:g} s; whether it took effect is unknown",
            ) from None
        except asyncio.CancelledError:
            lease.leave()
            raise
        finally:
            waiter.add_done_callback(_note_exception)

    def _run(self, bound: inspect.BoundArguments) -> object:
        try:
            value = self.function(*bound.args, **bound.kwargs)
            if inspect.isawaitable(value):
                value = LOOP.submit(_await(value)).result()
        except BaseException as error:  # noqa: BLE001  an exception in the cell
            raise failed(self.spec.tool, error) from None
        return to_plain(self.spec.tool, value)

    async def _run_async(self, bound: inspect.BoundArguments) -> object:
        try:
            value = await self.function(*bound.args, **bound.kwargs)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise failed(self.spec.tool, error) from None
        except BaseException as error:  # noqa: BLE001  an exception in the cell
            raise failed(self.spec.tool, error) from None
        return to_plain(self.spec.tool, value)


class _Lease:
    """The slot of one execution: returned when the execution ends, however long that takes."""

    def __init__(self, slots: Slots, future: Future[Any]) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._left = self._ended = False
        future.add_done_callback(self._on_end)

    def leave(self) -> None:
        """The caller waits no longer."""
        with self._lock:
            if not self._ended:
                self._left = True
                self._slots.note_stuck()

    def _on_end(self, _: Future[Any]) -> None:
        with self._lock:
            self._ended = True
            if self._left:
                self._slots.note_ended()
        self._slots.release()


def _note_exception(future: asyncio.Future[Any]) -> None:
    """Reads the exception of an execution without a caller, which asyncio would log otherwise."""
    if not future.cancelled():
        future.exception()


async def _await(value: Any) -> object:
    return await value


def _is_small(args: Sequence[object], kwargs: Mapping[str, object]) -> bool:
    left = INLINE_PARTS
    pending: list[object] = [*args, *kwargs.values()]
    while pending:
        value = pending.pop()
        if isinstance(value, list | tuple | set | frozenset | dict):
            left -= len(value) + 1
            if left < 0:
                return False
            pending.extend(value.values() if isinstance(value, dict) else value)
    return True


Depth = int | Literal["all"]


class ToolOptions(TypedDict, total=False):
    """The options of ``tool``, for type checkers."""

    name: str | None
    description: str | None
    idempotent: bool
    timeout_s: float | None
    concurrency: int
    max_calls: int | None
    depth: Depth


@overload
def tool(function: Callable[..., Any], /, **options: Unpack[ToolOptions]) -> FunctionTool: ...
@overload
def tool(**options: Unpack[ToolOptions]) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    idempotent: bool = False,
    timeout_s: float | None = TIMEOUT_S,
    concurrency: int = CONCURRENCY,
    max_calls: int | None = None,
    depth: Depth = 0,
) -> Any:
    """A tool: a function of this program that cells can call. A decorator, with or without options, and a function.

    Tools run outside the sandbox, with the rights of this process, and their arguments are written by a model.

    Args:
        function: a plain or a coroutine function. Its parameters are annotated with types of plain data.
        name: its name in the REPL; the function's own if not given.
        description: in place of the docstring. Models see its first line.
        idempotent: a call that was interrupted can be executed again when a run is resumed.
        timeout_s: seconds for one execution. A thread cannot be stopped: after that time the cell goes on without it.
        concurrency: executions at once.
        max_calls: executions in one run.
        depth: levels below the root whose nodes have the tool: 0 the root alone, or "all".

    Raises:
        ConfigurationError: the name or an annotation cannot be used.
    """
    if function is None:
        return lambda function: tool(
            function,
            name=name,
            description=description,
            idempotent=idempotent,
            timeout_s=timeout_s,
            concurrency=concurrency,
            max_calls=max_calls,
            depth=depth,
        )
    if isinstance(function, FunctionTool):
        function = function.function
    chosen = name if name is not None else getattr(function, "__name__", None)
    check_name(chosen, function)
    _check_limits(str(chosen), timeout_s, concurrency, max_calls, depth)
    spec = ToolSpec(
        str(chosen),
        _parameters(function, str(chosen)),
        describe(hints_of(function, str(chosen)).get("return", inspect.Parameter.empty)),
        cut_end(inspect.cleandoc(description if description is not None else _doc(function)), MAX_DOC_CHARS),
        idempotent,
        None if depth == "all" else depth,
        max_calls,
    )
    return FunctionTool(function, spec, timeout_s, concurrency)


def check_name(name: object, function: object = None) -> None:
    """Raises ConfigurationError if a tool cannot have this name."""
    remedy = "Give another one: rlm.tool(fn, name=...)."
    if function is not None and not callable(function):
        raise ConfigurationError(
            f"`tools` must be functions; got {show_given(function)}. Give [fn, ...], or rlm.mcp_tools(...)."
        )
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or len(name) > MAX_NAME_CHARS:
        raise ConfigurationError(
            f"A tool cannot have the name {name!r}: it must be a short Python identifier. {remedy}"
        )
    if name.startswith("_"):
        raise ConfigurationError(
            f"A tool cannot have the name {name!r}: it must not start with an underscore. {remedy}"
        )
    if name in RESERVED or f"{name}_async" in RESERVED:
        raise ConfigurationError(f"A tool cannot have the name {name!r}: the REPL defines it. {remedy}")
    if hasattr(builtins, name):
        raise ConfigurationError(f"A tool cannot have the name {name!r}: it would hide the builtin. {remedy}")


def _check_limits(name: str, timeout_s: object, concurrency: object, max_calls: object, depth: object) -> None:
    def is_whole(value: object, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    if timeout_s is not None and not (
        isinstance(timeout_s, int | float)
        and not isinstance(timeout_s, bool)
        and math.isfinite(timeout_s)
        and timeout_s > 0
    ):
        raise ConfigurationError(
            f"`timeout_s` of {name} must be more than 0, or None for no limit; got {show_given(timeout_s)}."
        )
    if not is_whole(concurrency, 1):
        raise ConfigurationError(f"`concurrency` of {name} must be 1 or more; got {show_given(concurrency)}.")
    if max_calls is not None and not is_whole(max_calls, 1):
        raise ConfigurationError(
            f"`max_calls` of {name} must be 1 or more, or None for no limit; got {show_given(max_calls)}."
        )
    if depth != "all" and not is_whole(depth, 0):
        raise ConfigurationError(f'`depth` of {name} must be 0 or more, or "all"; got {show_given(depth)}.')


def _doc(function: Callable[..., Any]) -> str:
    own = function.__doc__ if inspect.isroutine(function) or inspect.isclass(function) else None
    return own or inner_function(function).__doc__ or ""


def _parameters(function: Callable[..., Any], name: str) -> tuple[ToolParameter, ...]:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigurationError(f"The tool {name} is a generator: return a list instead.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ConfigurationError(f"The tool {name} has no signature: wrap it in a function with parameters.") from None
    hints = hints_of(function, name)
    return tuple(
        ToolParameter(
            parameter.name,
            _KIND_OF[parameter.kind],
            one_line(describe(hints.get(parameter.name, inspect.Parameter.empty))),
            None if parameter.default is inspect.Parameter.empty else _show_default(parameter.default),
        )
        for parameter in signature.parameters.values()
    )


def _show_default(value: object) -> str:
    plain = (str, bytes, int, float, bool, type(None), list, tuple, dict, set, frozenset)
    return cut_end(one_line(plain_repr(value)), MAX_DEFAULT_CHARS) if isinstance(value, plain) else "..."


def list_tools(given: Any) -> list[Any]:
    """The value of ``tools=`` as a list: a single function or server stands for a list of one."""
    try:
        return [given] if callable(given) or hasattr(given, "open") else list(given)
    except Exception:  # noqa: BLE001  not a list, or an object whose own methods fail
        raise ConfigurationError(
            f"`tools` must be a list of functions; got {show_given(given)}. Give [fn, ...]."
        ) from None


def make_tool(item: object) -> Any:
    """An element of ``tools=[...]`` as a tool: functions become one. Raises ConfigurationError."""
    if hasattr(item, "spec") or hasattr(item, "open"):
        return item
    return tool(cast("Callable[..., Any]", item))
