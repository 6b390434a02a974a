"""Messages of a worker, decoded and checked."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from rlm.core.cells import PlainValue, Quote, Variable
from rlm.core.subcalls import Subcall
from rlm.core.values import frozen
from rlm.sandbox.shared_memory import Header


@frozen
class SharedMemoryContext:
    """A shared context that the worker already holds under a descriptor."""

    header: Header
    descriptor: int


@frozen
class Ready:
    """The REPL holds its context."""


@frozen
class Printed:
    stream: Literal["stdout", "stderr"]
    text: str


@frozen
class Called:
    """New sub-calls. Each stays open until it is answered or withdrawn. ``size`` is that of their message in bytes."""

    subcalls: tuple[Subcall, ...]
    size: int = field(default=0, compare=False)


@frozen
class Withdrew:
    """Sub-calls whose answers are not needed any more."""

    numbers: tuple[int, ...]


@frozen
class Done:
    """The end of a cell.

    ``omitted`` and ``tails`` each hold one item for stdout and one for stderr. ``answer`` is a tuple of one, or None.
    ``cited`` and ``answer_cites`` are quotes given with ``cite``, and with the answer.
    """

    end: Literal["ok", "error", "exit", "interrupted"]
    echo: str | None
    error: str | None
    traceback: str | None
    notes: tuple[str, ...]
    variables: tuple[Variable, ...]
    omitted: tuple[int, int]
    tails: tuple[str, str]
    answer: tuple[PlainValue] | None
    prefetched: int = 0
    prefetches_used: int = 0
    cited: tuple[Quote, ...] = ()
    answer_cites: tuple[Quote, ...] = ()


@frozen
class Value:
    """The requested value in a tuple of one, or None if the variable does not exist."""

    value: tuple[PlainValue] | None


SessionEvent: TypeAlias = Ready | Printed | Called | Withdrew | Done | Value
