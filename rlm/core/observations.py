"""What a model is shown of its cells' output: short enough to read, errors never cut, nothing that varies between runs."""

from __future__ import annotations

from collections.abc import Sequence

from rlm.core.cells import Cell, CellResult, Variable

MAX_TRACEBACK_CHARS = 6_000  # a traceback longer than this repeats itself
MAX_VARIABLES = 40
MIN_OUTPUT_CHARS = 1_000  # what a cell's output keeps, however many cells share the observation

INVENTED = ("\n[cell ", "\n[variables] ", "\n[no output]", "\n[stderr] ")
"""How observations begin or go on: a reply that comes to one of these invents what its code printed, and may end there."""

_ENDS = {
    "exit": "The cell called sys.exit; it ended there. Variables are kept.",
    "timeout": "The cell ran into its time limit and was stopped.",
    "died": "The cell ended its process (memory limit, os._exit or a crash).",
    "interrupted": "The cell was stopped.",
}


def cut_middle(text: str, limit: int, whole: str = "") -> str:
    """``text`` with its middle left out where it is longer than ``limit`` characters; ``whole`` says where the rest is."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    tail = limit - head
    hint = f"; {whole}" if whole else ""
    return f"{text[:head]}\n[... {len(text) - limit:,} characters left out{hint} ...]\n{text[-tail:]}"


def observe(executed: Sequence[tuple[Cell, CellResult]], skipped: Sequence[Cell], *, limit_chars: int) -> str:
    """The observation of one turn: each cell's output, what became of cells that did not run, and the variables."""
    share = max(MIN_OUTPUT_CHARS, limit_chars // max(1, len(executed)))
    parts = [_observe_cell(cell, result, share, only=len(executed) + len(skipped) == 1) for cell, result in executed]
    if skipped:
        names = ", ".join(cell.name for cell in skipped)
        parts.append(f"[not run, because cell {executed[-1][0].name} did not end well: {names}]")
    if executed and (line := list_variables(executed[-1][1].variables)):
        parts.append(line)
    return "\n".join(parts)


def list_variables(variables: Sequence[Variable]) -> str:
    """One line that names the variables which code has defined."""
    if not variables:
        return ""
    shown = [
        f"{v.name[:80]} ({v.type[:80]}{'' if v.size is None else f', {v.size}'})" for v in variables[:MAX_VARIABLES]
    ]
    more = f" and {len(variables) - MAX_VARIABLES} more: SHOW_VARS()" if len(variables) > MAX_VARIABLES else ""
    return f"[variables] {', '.join(shown)}{more}"


def _observe_cell(cell: Cell, result: CellResult, limit_chars: int, *, only: bool) -> str:
    lines = [] if only else [f"[cell {cell.name}]"]
    if result.stdout:
        lines.append(cut_middle(result.stdout.rstrip("\n"), limit_chars, "the whole is in _stdout"))
    if result.echo is not None:
        lines.append(cut_middle(result.echo, limit_chars, "the whole is in _"))
    if result.stderr:
        lines.append("[stderr] " + cut_middle(result.stderr.rstrip("\n"), limit_chars // 2))
    if result.traceback or result.error:
        lines.append(cut_middle((result.traceback or result.error or "").rstrip("\n"), MAX_TRACEBACK_CHARS))
    if result.end in _ENDS:
        lines.append(f"[{_ENDS[result.end]}]")
    if result.state_lost:
        lines.append("[The REPL was started anew: `context` is there, variables of earlier cells are gone.]")
    lines.extend(f"[note] {note}" for note in result.notes)
    if not any(line for line in lines if not line.startswith("[cell")):
        lines.append("[no output]")
    return "\n".join(lines)
