"""Cells and their results: the vocabulary that the engine and a sandbox share for model-written code."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from rlm.core.values import frozen

PlainValue: TypeAlias = object
"""A value that crossed the sandbox's border.

Plain Python data keeps its type: None, bool, numbers, str, bytes, list, tuple, dict, set, frozenset, date and time types,
Decimal. Any other object arrives as its ``str()``.
"""

CellEnd: TypeAlias = Literal["ok", "error", "exit", "timeout", "died", "interrupted"]
"""The end of a cell.

- ``error``: it raised an exception.
- ``exit``: it called ``sys.exit``; the REPL stays alive.
- ``timeout``: it was stopped at the time limit; ``state_lost`` says if the REPL was replaced.
- ``died``: the process ended (``os._exit``, a crash, the memory limit) and was replaced.
- ``interrupted``: it was stopped because the run ended.
"""


@frozen
class Cell:
    """One code block.

    Attributes:
        turn, number: count from 1 and name the cell in tracebacks: ``<cell 2.1>``.
        code: the source text.
        clock_s: time of day at the cell's start (seconds since 1970); 0 uses the real clock.
        prefetch: True if its sub-calls can be sent ahead of time.
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
        """Its position in the node: turn and number."""
        return self.turn, self.number


@frozen
class Quote:
    """Words of a source that a model gave as evidence; ``path`` is the source that it named."""

    text: str
    path: str | None = None


@frozen
class Answer:
    """An answer given from code. ``value`` keeps the type of plain data. ``citations`` are the quotes given with it."""

    value: PlainValue
    citations: tuple[Quote, ...] = ()


@frozen
class Variable:
    """One line of SHOW_VARS. ``size`` is ``len()`` of the value, or None if it has no length."""

    name: str
    type: str
    size: int | None = None


@frozen
class CellResult:
    """Result of one cell.

    Attributes:
        end: how it ended.
        stdout, stderr: its output, cut in the middle at the sandbox's limit.
        echo: ``repr`` of a last expression's value; None without one, or if the value is None.
        error: type and message of an exception in one line, for instance ``"KeyError: 'x'"``.
        traceback: the traceback to show to the model: cell names and line numbers, without frames of the scaffold.
        answer: the value given by FINAL, FINAL_VAR, SUBMIT or ``answer["ready"]``.
        variables: names that code has defined, without those of the scaffold.
        notes: further facts for the model, one sentence each: a restored scaffold name, a coroutine that was never
            awaited, lost state.
        state_lost: the REPL was replaced; variables of earlier cells are gone.
        killed: its process was killed from outside, not by its own code and not at the time limit.
        citations: quotes that the cell gave with ``cite``, for the answer of this or a later cell.
        rebuilt: the REPL was replaced, and the earlier cells were executed again in the new one.
        elapsed_s: wall time.
        waited_s: the part of ``elapsed_s`` spent waiting for sub-calls.
        prefetched: sub-calls sent ahead of time.
        prefetches_used: those of them that the cell reached. The others were wasted.
        queries: model queries that the cell reached and that ended.
        failed_queries: those of them that failed.
        failure: the first failure in one line, for instance ``"RateLimitedError: ..."``.
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
    queries: int = 0
    failed_queries: int = 0
    failure: str = ""
    citations: tuple[Quote, ...] = ()

    @property
    def shown(self) -> str:
        """Everything it has to show, uncut: output, last value, error and notes."""
        parts = (self.stdout, self.echo, self.stderr, self.traceback or self.error, *self.notes)
        return "\n".join(part.rstrip("\n") for part in parts if part)
