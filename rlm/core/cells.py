"""Cells and what came of them: the words in which the engine and a sandbox speak of model-written code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rlm.core.messages import JsonSchema

PlainValue: TypeAlias = object
"""A value that crossed the sandbox's border: plain Python data (None, bool, numbers, str, bytes, list, tuple, dict, set,
frozenset, date and time types, Decimal) keeps its type; any other object arrives as its ``str()``."""

CellEnd: TypeAlias = Literal["ok", "error", "exit", "timeout", "died", "interrupted"]
"""How a cell ended. ``error``: it raised. ``exit``: it called ``sys.exit`` (the REPL lives). ``timeout``: stopped at the
time limit (``state_lost`` says whether the REPL had to be replaced). ``died``: the process ended (``os._exit``, a crash, the
memory limit) and was replaced. ``interrupted``: stopped because the run ended."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One code block. ``turn`` and ``number`` count from 1 and name it in tracebacks: ``<cell 2.1>``.

    ``clock_s`` is the time of day (seconds since 1970) that its code sees when it starts; 0 leaves it the real clock.
    ``prefetch``: whether its calls may be asked ahead of time.
    """

    turn: int
    number: int
    code: str
    clock_s: float = field(default=0.0, compare=False)
    prefetch: bool = field(default=True, compare=False)

    @property
    def name(self) -> str:
        return f"{self.turn}.{self.number}"

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands in its node."""
        return self.turn, self.number


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer given from code. ``value`` keeps the type of plain data."""

    value: PlainValue


@dataclass(frozen=True, slots=True)
class Variable:
    """A line of SHOW_VARS: ``size`` is ``len()`` where the value has one."""

    name: str
    type: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class CellResult:
    """What came of one cell.

    Attributes:
        end: how it ended.
        stdout, stderr: what it printed, cut in the middle at the sandbox's own limit.
        echo: ``repr`` of the value of a last expression, None where there is none or it is None.
        error: for an exception, its type and message in one line, for instance ``"KeyError: 'x'"``.
        traceback: the traceback as the model should see it: cell names and line numbers, no frames of the scaffold.
        answer: given by FINAL, FINAL_VAR, SUBMIT or ``answer["ready"]``.
        variables: names that code has defined, for the model's orientation; scaffold names are not among them.
        notes: what the model must be told besides, one sentence each (a restored scaffold name, a coroutine that was
            never awaited, lost state).
        state_lost: the REPL was replaced; variables of earlier cells are gone.
        killed: its process was killed from outside, not by anything that its code did and not at the time limit.
        rebuilt: the REPL was replaced, and the cells before this one were executed again in the new one.
        elapsed_s: wall time; waited_s: the part of it spent waiting for sub-calls.
        prefetched: sub-calls that were asked before the cell came to them; prefetches_used: those of them that it came to.
            The others were wasted.
    """

    end: CellEnd
    stdout: str = ""
    stderr: str = ""
    echo: str | None = None
    error: str | None = None
    traceback: str | None = None
    answer: Answer | None = None
    variables: tuple[Variable, ...] = ()
    notes: tuple[str, ...] = ()
    state_lost: bool = False
    killed: bool = False
    rebuilt: bool = False
    elapsed_s: float = 0.0
    waited_s: float = 0.0
    prefetched: int = 0
    prefetches_used: int = 0

    @property
    def shown(self) -> str:
        """All that it has to show, whole: what it printed, its last value, its error, what a model was told besides."""
        parts = (self.stdout, self.echo, self.stderr, self.traceback or self.error, *self.notes)
        return "\n".join(part.rstrip("\n") for part in parts if part)


@dataclass(frozen=True, slots=True)
class Subcall:
    """What code in a REPL asks for, as it left the sandbox; every field is untrusted.

    ``number`` counts the sub-calls of one cell from 1. ``batch`` is the same for the items of one batch and None for a
    single call. ``context`` is what was given apart from the prompt. ``prefetched``: asked before the cell came to it.
    ``budget`` asks no model, but what the run has left.
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
    budget: bool = False


@dataclass(frozen=True, slots=True)
class SubcallAnswer:
    """The answer to a sub-call: text, or data where a schema was given. ``elapsed_s`` is what the cell's clock goes on by."""

    value: PlainValue
    elapsed_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class SubcallFailure:
    """Why a sub-call has no answer. ``kind`` is the error's class name without its module."""

    kind: str
    message: str
    elapsed_s: float = field(default=0.0, compare=False)


SubcallOutcome: TypeAlias = SubcallAnswer | SubcallFailure


@dataclass(frozen=True, slots=True)
class ReplLimits:
    """Limits of one REPL. ``cell_seconds`` is wall time of one cell, waits for sub-calls not counted.

    ``prefetch_ahead``: how many calls of sequential code may be asked before the code comes to them; 0: none.
    """

    cell_seconds: float = 120.0
    memory_mb: int = 2048
    output_chars: int = 2_000_000
    open_calls: int = 2048
    prefetch_ahead: int = 0


@dataclass(frozen=True, slots=True)
class ReplSpec:
    """What a new REPL is to hold. ``context`` is str, list, dict or other plain data.

    ``setup_code`` runs once before the first cell, under the same confinement. ``can_call`` is False where the depth rule
    allows no sub-calls: the query functions then raise, saying so. ``seed`` decides everything random in it; None draws anew.
    """

    context: PlainValue
    setup_code: str | None = None
    can_call: bool = True
    limits: ReplLimits = field(default_factory=ReplLimits)
    seed: str | None = None


ReplVariables: TypeAlias = Mapping[str, PlainValue]
