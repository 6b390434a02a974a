"""Sub-calls: requests that code in a REPL makes of the engine, and their outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import TypeAlias

from rlm.core.cells import PlainValue
from rlm.core.messages import JsonSchema
from rlm.core.values import frozen


@frozen
class ModelQuery:
    """A prompt for a model, as it left the sandbox. Every field is untrusted.

    Attributes:
        number: position among the cell's sub-calls, from 1.
        context: data passed apart from the prompt; valid only if ``has_context``.
        model: name of the requested model; None for the default of the next depth.
        schema: JSON schema of the reply; None for text.
        recursive: request for a child node (True) or a leaf call (False); None leaves it to the depth rule.
        batch: number of the batch that the prompt belongs to; None for a single call.
        prefetched: sent ahead of time, before the cell reached the call.
        images: ids of the images that the model is shown.
        size: bytes of prompt and context on their way from the sandbox; 0 if it is unknown or small.
        tools: names of tools that the child node is to have.
    """

    number: int
    prompt: str
    context: PlainValue = None
    has_context: bool = False
    model: str | None = None
    schema: JsonSchema | None = None
    recursive: bool | None = None
    batch: int | None = None
    prefetched: bool = False
    images: tuple[str, ...] = ()
    size: int = field(default=0, compare=False)
    tools: tuple[str, ...] = ()


@frozen
class BudgetQuery:
    """A request for the run's remaining budget. ``number`` counts as in ``ModelQuery``."""

    number: int


@frozen
class ToolCall:
    """A call of a tool, as it left the sandbox. Every field is untrusted.

    Attributes:
        number: position among the cell's sub-calls, from 1.
        tool: name of the tool.
        args, kwargs: plain values.
        size: bytes of the arguments on their way from the sandbox; 0 if it is unknown or small.
    """

    number: int
    tool: str
    args: tuple[PlainValue, ...] = ()
    kwargs: Mapping[str, PlainValue] = field(default_factory=dict)
    size: int = field(default=0, compare=False)


Subcall: TypeAlias = ModelQuery | BudgetQuery | ToolCall


@frozen
class SubcallAnswer:
    """The answer to a sub-call: text, or data if a schema was given. ``elapsed_s`` advances the cell's clock."""

    value: PlainValue
    elapsed_s: float = field(default=0.0, compare=False)


@frozen
class SubcallFailure:
    """The error of a sub-call. ``kind`` is the error's class name without its module.

    ``limit`` names the limit or the stop that refused the sub-call or cut it off.
    """

    kind: str
    message: str
    elapsed_s: float = field(default=0.0, compare=False)
    limit: str | None = field(default=None, compare=False)


SubcallOutcome: TypeAlias = SubcallAnswer | SubcallFailure
