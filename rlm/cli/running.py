"""A run from the command line, new or resumed: shown while it proceeds, stopped by Ctrl-C, reported at its end.

The answer goes to stdout, everything else to stderr; the outcome becomes the exit status.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

from rich.console import Console

import rlm
from rlm.cli.exits import Exit, complain, describe_error, exit_for_error, exit_for_status
from rlm.cli.flags import raising_flag, written_flags
from rlm.cli.output import OutputError, describe_failure, describe_result, footnotes, write_answer, write_json
from rlm.core.errors import RLMError, RunCancelledError
from rlm.core.result import Result
from rlm.documents.values import Documents
from rlm.runtime.authority import consent_options
from rlm.views.escape import one_line
from rlm.views.feed import ThreadedView
from rlm.views.formatting import format_seconds, plural
from rlm.views.live import LiveView
from rlm.views.plain import PlainView

CANCEL_WAIT_S = 5.0  # a cancelled run ends its cells and calls within one second; a loaded machine may take longer
MAX_INTERRUPTED = 5  # tool calls that are named one by one


def drive(
    engine: rlm.RLM,
    view: ThreadedView | None,
    start: Callable[[], rlm.RunHandle],
    *,
    json_output: bool,
    quiet: bool,
    documents: Documents | None = None,
) -> int:
    """Runs under the view and reports after it, so that the answer never appears in the middle of a tree."""
    watching: AbstractContextManager[object] = view or nullcontext()
    handle: rlm.RunHandle | None = None
    try:
        with watching:
            handle = start()
            result = wait_for(handle)
    except KeyboardInterrupt:
        if json_output:
            run_id = None if handle is None else handle.run_id
            write_json({**describe_failure("interrupted", "cancelled"), "run_id": run_id}, sys.stdout)
        if handle is not None and not quiet:
            _print_resume_command(engine, handle.run_id)
        raise
    except RLMError as error:
        code = report_failure(error, engine.model_names, json_output=json_output)
        if handle is not None and error.result is not None and not quiet:
            _print_resume_command(engine, handle.run_id, getattr(error, "limit", None))
        return code
    code = report(result, engine.model_names, json_output=json_output, quiet=quiet, documents=documents)
    if result.status != "complete" and not quiet:
        _print_resume_command(engine, result.run_id, result.limit)
    return code


def _print_resume_command(engine: rlm.RLM, run: str, limit: str | None = None) -> None:
    """Prints the command that continues the run, with the flags that it needs."""
    if not engine.can_resume:
        return
    place = engine.options.store
    store = "" if place in (None, rlm.DEFAULT_STORE) else f" --store {shlex.quote(str(place))}"
    consent = written_flags(consent_options(engine.options))
    complain(f"to continue without paying twice: rlm resume {run}{store}{consent}{raising_flag(limit or '')}")


def wait_for(handle: rlm.RunHandle) -> Result:
    """The run's result. The first Ctrl-C finishes the run; a second one, or a signal that ends the process, cancels it."""
    try:
        return handle.result()
    except KeyboardInterrupt as first:
        if type(first) is not KeyboardInterrupt:
            _cancel(handle)
            raise
    try:  # also the second Ctrl-C that comes at once
        complain("finishing with what the run has; Ctrl-C again stops at once")
        handle.finish()
        return handle.result()
    except RunCancelledError:
        raise KeyboardInterrupt from None  # the run had nothing to answer from
    except KeyboardInterrupt:
        _cancel(handle)
        raise


def _cancel(handle: rlm.RunHandle) -> None:
    handle.cancel()
    with suppress(RLMError, TimeoutError):
        handle.result(CANCEL_WAIT_S)


def choose_view() -> ThreadedView | None:
    """The live tree on a terminal that can move its cursor, lines otherwise, nothing if stderr is closed."""
    if sys.stderr is None:
        return None
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal and sys.stderr.isatty():
        return LiveView(console)
    return PlainView(sys.stderr)


def report(
    result: Result, models: tuple[str, ...], *, json_output: bool, quiet: bool, documents: Documents | None = None
) -> int:
    """Prints a result. Returns the exit status."""
    code = exit_for_status(result.status)
    if result.status == "partial" and not quiet:
        cause = "the user asked to finish" if result.limit == "stopped" else f"the limit on {result.limit} was met"
        complain(f"partial answer after {format_seconds(result.elapsed_s)}: {cause}{_describe_undone(result)}")
    for shown in result.unfinished.tools[:MAX_INTERRUPTED]:
        complain(f"tool call interrupted, so its effect is unknown: {one_line(shown, 200)}")
    if result.error:
        complain(f"error: {result.error}")
    try:
        if json_output:
            read = {} if documents is None else {"documents": documents.to_dict()}
            write_json({**describe_result(result, models), **read}, sys.stdout)
        elif result.status in ("complete", "partial"):
            write_answer(result.answer if result.data is None else result.data, sys.stdout)
            if not quiet:
                _print_evidence(result)
    except OutputError as error:
        complain(f"error: {error}")
        return Exit.FAILED
    return code


def _print_evidence(result: Result) -> None:
    """Prints footnotes, and the part of the documents that models were shown."""
    for line in footnotes(result.citations):
        complain(line)
    if result.coverage is not None and result.coverage.documents:
        complain(one_line(result.coverage.summary(), 400))


def _describe_undone(result: Result) -> str:
    undone = result.unfinished
    parts = [
        f"{plural(count, noun)} {verb}"
        for count, noun, verb in (
            (undone.refused_calls, "call", "refused"),
            (undone.cancelled_calls, "call", "cut off"),
            (len(undone.nodes), "node", "not finished"),
            (len(undone.cells), "cell", "interrupted"),
            (len(undone.tools), "tool call", "interrupted (its effect is unknown)"),
        )
        if count
    ]
    return f"; left undone: {', '.join(parts)}" if parts else ""


def report_failure(error: RLMError, models: tuple[str, ...], *, json_output: bool) -> int:
    """Prints the error of a run, or of its preparation. Returns the exit status."""
    code = exit_for_error(error)
    complain(f"error: {describe_error(error)}", error)
    if json_output:
        line = f"{type(error).__name__}: {error}"
        status = "cancelled" if code == Exit.INTERRUPTED else "failed"
        report = describe_result(error.result, models) if error.result else describe_failure(line, status)
        try:
            write_json({**report, "error": line}, sys.stdout)
        except OutputError as failure:
            complain(f"error: {failure}")
    return code
