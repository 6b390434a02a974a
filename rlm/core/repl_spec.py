"""The contents and limits of a new REPL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import TypeAlias

from rlm.core.cells import PlainValue
from rlm.core.tools import ToolSpec
from rlm.core.values import frozen


@frozen
class ReplLimits:
    """Limits of one REPL.

    Attributes:
        cell_seconds: wall time of one cell, excluding waits for sub-calls.
        memory_mb: address space of the process, excluding the context.
        output_chars: characters of stdout, and of stderr, that one cell can send.
        open_calls: sub-calls that can be open at once.
        value_mb: size of a variable that the host reads.
        prefetch_ahead: sub-calls of sequential code that can be sent ahead of time; 0 turns prefetching off.
    """

    cell_seconds: float = 120.0
    memory_mb: int = 2048
    output_chars: int = 2_000_000
    open_calls: int = 2048
    value_mb: int = 48
    prefetch_ahead: int = 0


@frozen
class ReplSpec:
    """Contents of a new REPL.

    Attributes:
        context: str, list, dict or other plain data.
        setup_code: code that runs once before the first cell, under the same confinement.
        can_call: False if the depth rule forbids sub-calls; the query functions then raise an error that says so.
        limits: limits of the REPL.
        seed: source of all randomness in the REPL; None draws a new one.
        run: the run to which the host's memory for sub-calls is charged.
        side_table: JSON with places and tables of the documents in the context; empty if it has none.
        tools: the tools that its cells can call.
        is_typed: the answer has a schema, so instances of classes in it are sent as their fields.
        depth: of its node. Deeper REPLs are opened first, because REPLs of shallower nodes can wait for them.
        on_queued: called with its place in the queue, if it must wait for memory: at first, and whenever the place has halved.
    """

    context: PlainValue
    setup_code: str | None = None
    can_call: bool = True
    limits: ReplLimits = field(default_factory=ReplLimits)
    seed: str | None = None
    run: str = ""
    side_table: str = ""
    tools: tuple[ToolSpec, ...] = ()
    is_typed: bool = False
    depth: int = 0
    on_queued: Callable[[int], None] | None = field(default=None, compare=False)


ReplVariables: TypeAlias = Mapping[str, PlainValue]
