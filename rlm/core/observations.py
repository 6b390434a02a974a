"""Formats the output of cells for the model: short enough to read, with errors intact and nothing that varies between runs."""

from __future__ import annotations

from collections.abc import Sequence

from rlm.core.bounds import text_bytes
from rlm.core.cells import Cell, CellResult, Variable

MAX_TRACEBACK_CHARS = 6_000  # a traceback longer than this repeats itself
MAX_VARIABLES = 40
MAX_FAILURE_CHARS = 300
MIN_OUTPUT_CHARS = 1_000  # per cell, however many cells share the observation

INVENTED = ("\n[cell ", "\n[variables] ", "\n[no output]", "\n[stderr] ")
"""Beginnings of an observation's parts. A reply that contains one invents the output of its code, and can end there."""

_ENDS = {
    "exit": "The cell called sys.exit and ended there. Variables are kept.",
    "timeout": "The cell reached its time limit and was stopped.",
    "died": "The cell's process ended (memory limit, os._exit or a crash).",
    "interrupted": "The cell was stopped.",
}


def cut_middle(text: str, limit: int, whole: str = "") -> str:
    """Cuts the middle out of a text of more than ``limit`` characters. ``whole`` names the place of the full text."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    hint = f"; {whole}" if whole else ""
    return f"{text[:head]}\n[... {len(text) - limit:,} characters left out{hint} ...]\n{text[-tail:]}"


def cut_bytes(text: str, limit: int) -> str:
    """Cuts the middle out of a text down to about ``limit`` bytes, not counting the mark in its place."""
    size = text_bytes(text)
    if size <= limit:
        return text
    chars = limit * len(text) // size
    while chars > 3 and text_bytes(text[: chars * 2 // 3]) + text_bytes(text[-(chars - chars * 2 // 3) :]) > limit:
        chars = chars * 9 // 10
    return cut_middle(text, chars)


def observe(executed: Sequence[tuple[Cell, CellResult]], skipped: Sequence[Cell], *, limit_chars: int) -> str:
    """Formats the observation of one turn: the output of each cell, the cells that did not run, and the variables."""
    share = max(MIN_OUTPUT_CHARS, limit_chars // max(1, len(executed)))
    parts = [_observe_cell(cell, result, share, only=len(executed) + len(skipped) == 1) for cell, result in executed]
    if skipped:
        names = ", ".join(cell.name for cell in skipped)
        parts.append(f"[not run, because cell {executed[-1][0].name} failed: {names}]")
    if executed and (line := list_variables(executed[-1][1].variables)):
        parts.append(line)
    return "\n".join(parts)


def list_variables(variables: Sequence[Variable]) -> str:
    """Lists the variables that code has defined, in one line."""
    if not variables:
        return ""
    shown = [
        f"{v.name[:80]} ({v.type[:80]}{'' if v.size is None else f', {v.size}'})" for v in variables[:MAX_VARIABLES]
    ]
    more = f" and {len(variables) - MAX_VARIABLES} more: SHOW_VARS()" if len(variables) > MAX_VARIABLES else ""
    return f"[variables] {', '.join(shown)}{more}"


def describe_failures(result: CellResult) -> str:
    """Counts a cell's failed sub-calls: its code sees them as text, and can overlook them."""
    noun = "sub-call" if result.queries == 1 else "sub-calls"
    failure = cut_middle(" ".join(result.failure.split()), MAX_FAILURE_CHARS)
    return f"[{result.failed_queries:,} of {result.queries:,} {noun} failed: {failure}]"


def _observe_cell(cell: Cell, result: CellResult, limit_chars: int, *, only: bool) -> str:
    lines = [] if only else [f"[cell {cell.name}]"]
    if result.stdout:
        lines.append(cut_middle(result.stdout.rstrip("\n"), limit_chars, "full text in _stdout"))
    if result.echo is not None:
        lines.append(cut_middle(result.echo, limit_chars, "full value in _"))
    if result.stderr:
        lines.append("[stderr] " + cut_middle(result.stderr.rstrip("\n"), limit_chars // 2))
    if result.traceback or result.error:
        lines.append(cut_middle((result.traceback or result.error or "").rstrip("\n"), MAX_TRACEBACK_CHARS))
    if result.end in _ENDS:
        lines.append(f"[{_ENDS[result.end]}]")
    if result.state_lost:
        lines.append("[The REPL was restarted. `context` is available; variables of earlier cells are gone.]")
    if result.failed_queries and not (
        result.queries == 1 and result.end == "error"
    ):  # the traceback shows a single one
        lines.append(describe_failures(result))
    lines.extend(f"[note] {note}" for note in result.notes)
    if not any(line for line in lines if not line.startswith("[cell")):
        lines.append("[no output]")
    return "\n".join(lines)
