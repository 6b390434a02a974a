"""Executes one cell in the REPL's namespace and collects its outcome. It knows no sockets."""

from __future__ import annotations

import ast
import inspect
import mmap
import sys
import types
import warnings
from dataclasses import dataclass, field
from typing import Any, TextIO

from ..failures import AnswerGiven, CellInterrupted
from ..lookahead.text_operations import name_text_operations
from ..sigint_guard import SigintGuard
from ..typed.instances import to_plain
from ..wire.pieces import dump_value
from .event_loop import LoopOwner
from .reports import describe_error, describe_traceback, remember_source, show_value
from .scaffold import Scaffold

VALUE = "__cell_value__"  # variable that carries the value of a last expression to the echo
BALLAST_BYTES = 16 * 1024 * 1024  # released when memory runs out, so that the error can still be reported
MAX_SCANNED = 1000  # items of one list that are searched for coroutines


@dataclass(slots=True)
class Outcome:
    """Outcome of a cell without its printed text.

    ``answer`` is an encoded value. ``cited`` and ``answer_cites`` are quotes with their documents.
    """

    end: str = "ok"
    echo: str | None = None
    error: str | None = None
    traceback: str | None = None
    answer: tuple[str, bytes] | None = None
    notes: list[str] = field(default_factory=list)
    cited: list[tuple[str, str | None]] = field(default_factory=list)
    answer_cites: list[tuple[str, str | None]] = field(default_factory=list)


class Executor:
    """Executes cells. With ``is_typed``, instances of classes in an answer are sent as their fields."""

    def __init__(self, namespace: dict[str, Any], scaffold: Scaffold, loops: LoopOwner, guard: SigintGuard) -> None:
        self._namespace = namespace
        self._scaffold = scaffold
        self._loops = loops
        self._guard = guard
        self.is_typed = False
        self._forgotten: list[str] = []
        self._ballast: mmap.mmap | None = None
        warnings.showwarning = self._show_warning
        warnings.filterwarnings("always", message="coroutine .* was never awaited", category=RuntimeWarning)

    def execute(self, name: str, code: str) -> Outcome:
        """Runs a cell to its end. In between, the main thread runs the cell's code, and a SIGINT stops it there."""
        self._guard.pending = False  # the host sends a cell only after all SIGINTs for the previous one
        outcome = Outcome(notes=self._scaffold.restore())
        self._forgotten.clear()
        if self._ballast is None:
            self._refill()
        self._loops.ensure()
        self._guard.install()
        try:
            self._guard.release()
            self._run(f"<cell {name}>", code, outcome)
            self._guard.hold()
        except BaseException as error:  # a SIGINT between the cell's own handlers and ours
            self._guard.hold()
            self._note_error(outcome, error)
        outcome.notes += self._find_forgotten()
        return outcome

    def _run(self, filename: str, code: str, outcome: Outcome) -> None:
        remember_source(filename, code)
        self._namespace.pop(VALUE, None)
        try:
            with self._guard.parsing():
                compiled = compile_cell(code, filename)
            self._run_code(compiled)
            self._echo(outcome)
        except BaseException as error:
            self._note_error(outcome, error)
        try:
            given = self._scaffold.take_answer()
            if given is not None:
                outcome.answer = dump_value(to_plain(given[0]) if self.is_typed else given[0])
            outcome.cited, outcome.answer_cites = self._scaffold.take_quotes()
        except BaseException as error:
            self._note_error(outcome, error)

    def _run_code(self, compiled: types.CodeType) -> None:
        if compiled.co_flags & inspect.CO_COROUTINE:
            self._loops.run_cell(eval(compiled, self._namespace))
        else:
            exec(compiled, self._namespace)

    def _echo(self, outcome: Outcome) -> None:
        value = self._namespace.pop(VALUE, None)
        if value is None:
            return
        self._namespace["_"] = value
        outcome.echo = show_value(value)
        if inspect.iscoroutine(value):
            outcome.notes.append(
                "The last expression is a coroutine that was never awaited: write `await` in front of it to run it."
            )

    def _note_error(self, outcome: Outcome, error: BaseException) -> None:
        if isinstance(error, AnswerGiven):
            return
        if isinstance(error, MemoryError) and self._ballast is not None:
            self._ballast.close()
            self._ballast = None
        if isinstance(error, CellInterrupted):
            outcome.end = "interrupted"
        elif isinstance(error, SystemExit):
            outcome.end, outcome.error = "exit", describe_error(error)
            return
        else:
            outcome.end = "error"
        outcome.error, outcome.traceback = describe_error(error), describe_traceback(error)

    def _refill(self) -> None:
        try:
            self._ballast = mmap.mmap(-1, BALLAST_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # never touched
        except (OSError, MemoryError):
            self._ballast = None

    def _find_forgotten(self) -> list[str]:
        """Notes on coroutines that were never awaited: discarded ones, and those that a variable still holds."""
        notes = [
            f"A coroutine of {name} was never awaited, so it did not run: write `await {name}(...)`."
            for name in dict.fromkeys(self._forgotten)
        ]
        for name, value in self._scaffold.variables():
            if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                notes.append(f"`{name}` holds a coroutine that was never awaited: write `await {name}`.")
            elif type(value) in (list, tuple) and _holds_coroutine(value):
                notes.append(
                    f"`{name}` holds coroutines that were never awaited: write `await asyncio.gather(*{name})`."
                )
        return notes

    def _show_warning(  # noqa: PLR0917  the signature is the warnings module's
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if category is RuntimeWarning and text.startswith("coroutine '") and "was never awaited" in text:
            self._forgotten.append(text.split("'")[1].rpartition(".")[2])
            return
        (file or sys.stderr).write(warnings.formatwarning(message, category, filename, lineno, line))


def compile_cell(code: str, filename: str) -> types.CodeType:
    """Compiles a cell to one code object that stores the value of a last expression in VALUE. Top-level await is allowed."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    tree = compile(code, filename, "exec", flags | ast.PyCF_ONLY_AST, dont_inherit=True)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        place = ast.Name(VALUE, ast.Store(), lineno=last.lineno, col_offset=0, end_lineno=last.lineno, end_col_offset=0)
        tree.body[-1] = ast.copy_location(ast.Assign([place], last.value), last)
    compiled = compile(name_text_operations(tree), filename, "exec", flags, dont_inherit=True)
    assert isinstance(compiled, types.CodeType)
    return compiled


def _holds_coroutine(items: Any) -> bool:
    return any(
        inspect.iscoroutine(item) and inspect.getcoroutinestate(item) == inspect.CORO_CREATED
        for item in items[:MAX_SCANNED]
    )
