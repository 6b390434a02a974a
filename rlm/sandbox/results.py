"""Results of cells, built from the worker's report or from the end of its process."""

from __future__ import annotations

from rlm.core.cells import Answer, CellEnd, CellResult
from rlm.sandbox.cell_runner import CellRunner
from rlm.sandbox.connection import KILLED
from rlm.sandbox.messages import Done


def finished_result(runner: CellRunner, done: Done, limit: str) -> CellResult:
    """The result of a cell that the worker reported as ended. ``limit`` is its time limit as text."""
    end: CellEnd = done.end
    error, notes = done.error, done.notes
    if runner.timed_out and done.answer is None:
        end, error = "timeout", f"TimeoutError: the cell ran longer than {limit}"
        notes = (
            *notes,
            f"The cell was stopped after {limit} (waits for sub-calls not counted). Variables are still there.",
        )
    elif end == "interrupted" and runner.stopped:
        error = None
    elif end == "interrupted":  # by the code itself: the host sends SIGINT only at the time limit or on a stop
        end = "error"
    texts = [
        _join(runner.printed(stream), omitted, tail)
        for stream, omitted, tail in zip(("stdout", "stderr"), done.omitted, done.tails, strict=True)
    ]
    queries, failures = runner.queries.total(done.prefetches_used)
    return CellResult(
        end=end,
        stdout=texts[0],
        stderr=texts[1],
        echo=done.echo,
        error=error,
        traceback=done.traceback,
        answer=None if done.answer is None else Answer(done.answer[0], done.answer_cites),
        variables=done.variables,
        notes=notes,
        elapsed_s=round(runner.watch.elapsed(), 6),  # as fine as the times of events
        waited_s=round(runner.watch.waited, 6),
        prefetched=done.prefetched,
        prefetches_used=done.prefetches_used,
        queries=queries,
        failed_queries=len(failures),
        failure=f"{failures[0].kind}: {failures[0].message}" if failures else "",
        citations=done.cited,
    )


def died_result(runner: CellRunner, how: str, limit: str, shortage: str, elapsed_s: float) -> CellResult:
    """The result of a cell whose process ended. ``shortage`` is the reason if memory ran out, and empty otherwise."""
    end, what, why = _why_ended(runner, how, limit, shortage)
    return CellResult(
        end=end,
        stdout=runner.printed("stdout"),
        stderr=runner.printed("stderr"),
        error=what,
        notes=(why,),
        state_lost=True,
        killed=end == "died" and not shortage and KILLED in how,
        elapsed_s=elapsed_s,
        waited_s=runner.watch.waited,
    )


def _why_ended(runner: CellRunner, how: str, limit: str, shortage: str) -> tuple[CellEnd, str, str]:
    """The end of a cell whose process is gone, its error, and a sentence for the model."""
    if runner.timed_out:
        why = f"The cell ran longer than {limit} and could not be interrupted, so its process was killed."
        return "timeout", f"TimeoutError: the cell ran longer than {limit}", why
    if runner.stopped:
        why = "The cell was stopped and could not be interrupted, so its process was killed."
        return "interrupted", f"the process {how}", why
    if shortage:
        return "died", f"MemoryError: {shortage}", f"The process was killed: {shortage}. Store less in variables."
    return "died", f"the process {how}", f"The REPL's process ended in this cell: it {how}."


def _join(head: str, omitted: int, tail: str) -> str:
    return f"{head}\n... [{omitted:,} characters left out] ...\n{tail}" if omitted else head + tail
