"""``RLM_REPL``: the class of "Async Execution & Depth > 1 Features", a thin layer over ``rlm.RLM``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from rlm.api import RLM
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, RLMError
from rlm.core.foreign_names import FOREIGN_RESULTS, missing_attribute
from rlm.core.result import Result
from rlm.core.usage import Spend, UsageReport
from rlm.ports import SinkLike
from rlm.runtime.arguments import answer_form
from rlm.runtime.contexts import plain_context
from rlm.runtime.loop import BACKGROUND
from rlm.views.plain import PlainView

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

CostLine: TypeAlias = dict[str, int | float | None]


class CompletionText(str):
    """The text of an answer. Attributes that other libraries have at this place are refused with the name to use."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers report unknown attributes themselves

        def __getattr__(self, name: str) -> object:
            hint = {name: "completion() returns the answer as text; `last_result` has cost, usage and tree."}
            raise missing_attribute("str", name, hint if name in FOREIGN_RESULTS else {})


class RLM_REPL:  # noqa: N801  the name is part of the public API
    """Answers questions over inputs of any size through a Python REPL and recursive model calls.

    Args:
        model: the root's model.
        recursive_model: the model of all sub-calls, at every depth.
        max_iterations: turns of each node.
        depth: the root's depth; 0 for an outermost run.
        max_depth: levels of model calls below depth 0: 1 for plain sub-calls, 2 and more for nested RLMs.
        enable_logging: log events to stderr.
        track_costs: accumulate totals for ``cost_summary()``.
        api_key: the provider's key; from the environment if None.
        options: all other options of ``rlm.RLM``, for instance ``base_url``, ``budget`` or ``cell_seconds``. A budget applies to
            each completion.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    def __init__(  # noqa: PLR0917  the order is part of the public API
        self,
        model: str = "gpt-4o",
        recursive_model: str = "gpt-4o-mini",
        max_iterations: int = 20,
        depth: int = 0,
        max_depth: int = 1,
        enable_logging: bool = True,
        track_costs: bool = True,
        api_key: str | None = None,
        **options: Any,
    ) -> None:
        if depth < 0 or depth > max_depth:
            raise ConfigurationError(f"`depth` must be from 0 to `max_depth`={max_depth}; got {depth}.")
        self.depth = depth
        self.max_depth = max_depth
        self.enable_logging = enable_logging
        self.track_costs = track_costs
        if "sub_model" in options:
            raise ConfigurationError("`sub_model` is `recursive_model` here. Give that one.")
        # An RLM at depth 1 is a sub-call of another program: models above its depth are never asked.
        options.setdefault("models", [*[model] * (depth + 1), recursive_model])
        self.engine = RLM(max_depth=max_depth, max_iterations=max_iterations, api_key=api_key, **options)
        self.last_result: Result | None = None
        self._lock = threading.Lock()
        self._spent = UsageReport()

    @overload
    def completion(
        self, context: PlainValue, query: str | None = None, *, schema: None = None, on_event: SinkLike | None = None
    ) -> CompletionText: ...
    @overload
    def completion(
        self,
        context: PlainValue,
        query: str | None = None,
        *,
        schema: Mapping[str, Any],
        on_event: SinkLike | None = None,
    ) -> Any: ...
    @overload
    def completion(
        self, context: PlainValue, query: str | None = None, *, schema: TypeForm[T], on_event: SinkLike | None = None
    ) -> T: ...
    def completion(
        self, context: PlainValue, query: str | None = None, *, schema: Any = None, on_event: SinkLike | None = None
    ) -> Any:
        """Answers ``query`` over ``context``.

        Args:
            context: str, list of str, list of messages, dict, documents, or paths; as for ``rlm.RLM.run``.
            query: the question; None if ``context`` itself contains it.
            schema: the type of the answer, or a JSON schema; as for ``rlm.RLM.run``.
            on_event: called with every event of this run, on the engine's thread; it must not block.

        Returns:
            The answer as text; with ``schema``, an instance of the type, or plain data. ``last_result`` holds it as a
            value, with status, usage and tree.

        Raises:
            RLMError: there is no answer. Errors are never returned as text.
        """
        form = answer_form(schema)
        with ExitStack() as stack:
            sinks: list[SinkLike] = [] if on_event is None else [on_event]
            if self.enable_logging:
                sinks.append(stack.enter_context(PlainView(sys.stderr)))
            work = self.engine.execute(query, plain_context(context), form=form, depth=self.depth, sinks=sinks)
            try:
                result = BACKGROUND.wait(work)
            except RLMError as error:
                self._note(error.result)
                raise
        self._note(result)
        return CompletionText(result) if schema is None else result.answer

    def cost_summary(self) -> dict[str, object]:
        """Tokens by kind, calls and dollars of all completions since the last ``reset()``, sub-calls at every depth included.

        Returns:
            ``{"calls", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "cost_usd",
            "unpriced_calls", "by_model": {name: the same}, "by_depth": {depth: the same}}``. ``cost_usd`` is None if a
            call has no known price.

        Raises:
            ConfigurationError: with ``track_costs=False``.
        """
        if not self.track_costs:
            raise ConfigurationError("`track_costs` must be True for cost_summary(); got False.")
        with self._lock:
            spent = self._spent
        return {
            **_cost_line(spent.total),
            "by_model": {name: _cost_line(spend) for name, spend in spent.by_model.items()},
            "by_depth": {depth: _cost_line(spend) for depth, spend in spent.by_depth.items()},
        }

    def reset(self) -> None:
        """Clears totals and the last result."""
        with self._lock:
            self._spent = UsageReport()
            self.last_result = None

    def _note(self, result: Result | None) -> None:
        if result is None:
            return
        with self._lock:
            self.last_result = result
            if self.track_costs:
                self._spent = self._spent + result.usage


def _cost_line(spend: Spend) -> CostLine:
    usage = spend.usage
    return {
        "calls": usage.calls,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "total_tokens": usage.total_tokens,
        "cost_usd": None if spend.unpriced_calls else spend.cost_usd,
        "unpriced_calls": spend.unpriced_calls,
    }
