"""``rlm ask``: one question over files, folders or standard input.

The answer goes to stdout, everything else to stderr. It reads the input, wires a view to the engine, and turns what
came of the run into text and an exit status; it decides nothing about how an answer is found.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console

import rlm
from rlm.cli.exits import Exit, complain, describe_error, exit_for_error, exit_for_status
from rlm.cli.inputs import STDIN_PATH, Context, Inputs, read_inputs
from rlm.cli.output import (
    OutputError,
    describe_estimate,
    describe_failure,
    describe_result,
    write_answer,
    write_json,
)
from rlm.cli.records import choose_store
from rlm.core.budget import Budget
from rlm.core.errors import ConfigurationError, RLMError, RunCancelledError
from rlm.core.result import Result
from rlm.views.feed import ThreadedView
from rlm.views.live import LiveView
from rlm.views.outline import format_seconds, plural
from rlm.views.plain import PlainView

CANCEL_WAIT_S = 5.0  # a cancelled run ends its cells and calls within one second; a loaded machine may take longer
LIMIT_OPTIONS = {
    "usd": " --budget DOLLARS",
    "tokens": " --max-tokens-total TOKENS",
    "calls": " --max-calls CALLS",
    "seconds": " --timeout SECONDS",
    "iterations": " --max-iterations TURNS",
}
"""What raises a limit that was met."""


def ask(
    question: str,
    /,
    *files: str,
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    sub_model: str | None = None,
    depth: Annotated[int, Parameter(validator=Number(gte=0))] = 1,
    max_iterations: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    budget: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    max_calls: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    max_tokens_total: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    timeout: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    price: Annotated[list[str] | None, Parameter(show_default=False)] = None,
    estimate: Annotated[bool, Parameter(show_default=False)] = False,
    concurrency: Annotated[int, Parameter(validator=Number(gte=1))] = 64,
    cell_seconds: Annotated[float, Parameter(validator=Number(gt=0))] = 120.0,
    sandbox: str = "auto",
    sandbox_package: Annotated[list[str] | None, Parameter(negative_iterable="")] = None,
    base_url: str | None = None,
    encoding: str = "utf-8",
    store: str | None = None,
    no_store_texts: Annotated[bool, Parameter(show_default=False)] = False,
    cache: Annotated[bool, Parameter(show_default=False)] = False,
    json_output: Annotated[bool, Parameter(name="--json", show_default=False)] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], show_default=False)] = False,
) -> int:
    """Ask one question over files, folders or standard input, of any size.

    Parameters
    ----------
    question
        What to find out.
    files
        Files or folders (their text files); - or nothing reads standard input. Several become a dict of path to text.
    model
        The root's model: provider:model, or a bare OpenAI name.
    sub_model
        The model for sub-calls; the root's if not given.
    depth
        Levels of model calls below the root: 1 plain sub-calls, 2 and more nested RLMs, 0 none.
    max_iterations
        Turns a node may take; then it is asked for its answer.
    budget
        Dollars the whole run may spend. Like the next three limits it holds: the root then answers with what there is.
    max_calls
        Model calls the whole run may make.
    max_tokens_total
        Tokens the whole run may use, prompts and replies together.
    timeout
        Seconds the whole run may take.
    price
        MODEL=IN,OUT: dollars for a million tokens, where no price is published. May be repeated.
    estimate
        Tell size, calls and cost to expect, and spend nothing.
    concurrency
        Model calls in flight at most, over all depths.
    cell_seconds
        Time one code cell may take, waits for sub-calls not counted.
    sandbox
        Isolation level for model-written code.
    sandbox_package
        What cells may import besides the standard library; may be given several times.
    base_url
        Address of an OpenAI-compatible endpoint.
    encoding
        Of the files and of standard input.
    store
        Where the run is kept: a path, "memory" or "none". RLM_STORE, else a file among your data, if not given.
    no_store_texts
        Keep hashes and numbers only; such a run cannot be resumed.
    cache
        Take answers of sub-calls from earlier runs where exactly the same was asked.
    json_output
        Print one JSON object: answer, status, usage, cost_usd, run_id, elapsed_s, models, limit, error.
    quiet
        Nothing on stderr but errors.
    """
    try:
        inputs = _read(question, files, encoding)
        for note in [] if quiet else [*inputs.notes, *_default_notes(model)]:
            complain(note)
        view = None if quiet else choose_view()
        engine = rlm.RLM(
            model,
            sub_model=sub_model,
            max_depth=depth,
            max_iterations=max_iterations,
            budget=Budget(usd=budget, tokens=max_tokens_total, calls=max_calls, seconds=timeout),
            prices=_read_prices(price or []),
            concurrency=concurrency,
            cell_seconds=cell_seconds,
            sandbox=sandbox,
            sandbox_packages=sandbox_package or (),
            base_url=base_url,
            store=choose_store(store),
            store_texts=not no_store_texts,
            cache=cache,
            sinks=[view] if view else [],
        )
    except RLMError as error:
        return report_failure(error, (), json_output=json_output)
    with engine:
        if estimate:
            return _estimate(engine, inputs.context, json_output=json_output)
        return _run(engine, view, question, inputs, json_output=json_output, quiet=quiet)


def _run(
    engine: rlm.RLM, view: ThreadedView | None, question: str, inputs: Inputs, *, json_output: bool, quiet: bool
) -> int:
    """Runs under the view and reports after it, so that the answer never lands in the middle of a tree."""
    watching: AbstractContextManager[object] = view or nullcontext()
    handle: rlm.RunHandle | None = None
    try:
        with watching:
            handle = engine.start(question, inputs.context, sources=inputs.sources)
            result = _wait(handle)
    except KeyboardInterrupt:
        if json_output:
            write_json(describe_failure("interrupted", "cancelled"), sys.stdout)
        if handle is not None and not quiet:
            _tell_how_to_go_on(engine, handle.run_id)
        raise
    except RLMError as error:
        code = report_failure(error, engine.model_names, json_output=json_output)
        if handle is not None and error.result is not None and not quiet:
            _tell_how_to_go_on(engine, handle.run_id, getattr(error, "limit", None))
        return code
    code = report(result, engine.model_names, json_output=json_output, quiet=quiet)
    if result.status != "complete" and not quiet:
        _tell_how_to_go_on(engine, result.run_id, result.limit)
    return code


def _tell_how_to_go_on(engine: rlm.RLM, run: str, limit: str | None = None) -> None:
    """What was paid for is not lost, and a person has to know."""
    if engine.can_resume:
        complain(f"to go on without paying twice: rlm resume {run}{LIMIT_OPTIONS.get(limit or '', '')}")


def _wait(handle: rlm.RunHandle) -> Result:
    """The run's result. Ctrl-C once: finish with what is there; twice, or a signal that ends the process: stop now."""
    try:
        return handle.result()
    except KeyboardInterrupt as first:
        if type(first) is not KeyboardInterrupt:
            _cancel(handle)
            raise
        complain("finishing with what there is; Ctrl-C again stops at once")
        handle.finish()
    try:
        return handle.result()
    except RunCancelledError:
        raise KeyboardInterrupt from None  # there was nothing yet to finish with
    except KeyboardInterrupt:
        _cancel(handle)
        raise


def _cancel(handle: rlm.RunHandle) -> None:
    handle.cancel()
    with suppress(RLMError, TimeoutError):
        handle.result(CANCEL_WAIT_S)


def _read_prices(given: list[str]) -> dict[str, tuple[float, ...]]:
    """``MODEL=IN,OUT``, up to four figures."""
    prices: dict[str, tuple[float, ...]] = {}
    for entry in given:
        model, _, figures = entry.rpartition("=")
        try:
            prices[model] = tuple(float(figure) for figure in figures.split(","))
        except ValueError:
            model = ""
        if not model:
            raise ConfigurationError(f"--price {entry}: give it as MODEL=IN,OUT in dollars for a million tokens.")
    return prices


def _estimate(engine: rlm.RLM, context: Context, *, json_output: bool) -> int:
    found = engine.estimate(context)
    try:
        if json_output:
            write_json(dataclasses.asdict(found), sys.stdout)
        else:
            write_answer(describe_estimate(found, engine.model_names), sys.stdout)
    except OutputError as error:
        complain(f"error: {error}")
        return Exit.FAILED
    return Exit.COMPLETE


def _read(question: str, files: tuple[str, ...], encoding: str) -> Inputs:
    if not question.strip():
        raise ConfigurationError('the question is empty: rlm ask "..." FILE')
    if Path(question).is_file() and files and not Path(files[0]).exists() and files[0] != STDIN_PATH:
        raise ConfigurationError('the question comes first: rlm ask "..." FILE')
    stdin = None if sys.stdin is None or (sys.stdin.isatty() and STDIN_PATH not in files) else sys.stdin.buffer
    return read_inputs(files, stdin, encoding=encoding)


def _default_notes(model: str | None) -> list[str]:
    """The line that says which models were chosen when the caller named none."""
    if model is not None:
        return []
    note = rlm.default_models(os.environ).note
    return [note] if note else []


def choose_view() -> ThreadedView | None:
    """The live tree on a terminal that can move its cursor, lines elsewhere, nothing where stderr is closed."""
    if sys.stderr is None:
        return None
    console = Console(stderr=True)
    if console.is_terminal and not console.is_dumb_terminal and sys.stderr.isatty():
        return LiveView(console)
    return PlainView(sys.stderr)


def report(result: Result, models: tuple[str, ...], *, json_output: bool, quiet: bool) -> int:
    code = exit_for_status(result.status)
    if result.status == "partial" and not quiet:
        why = "the user asked to finish" if result.limit == "stopped" else f"the limit on {result.limit} was met"
        complain(f"partial answer after {format_seconds(result.elapsed_s)}: {why}{_describe_undone(result)}")
    if result.error:
        complain(f"error: {result.error}")
    try:
        if json_output:
            write_json(describe_result(result, models), sys.stdout)
        elif result.status in ("complete", "partial"):
            write_answer(result.answer, sys.stdout)
    except OutputError as error:
        complain(f"error: {error}")
        return Exit.FAILED
    return code


def _describe_undone(result: Result) -> str:
    undone = result.unfinished
    parts = [
        f"{plural(count, what)} {how}"
        for count, what, how in (
            (undone.refused_calls, "call", "refused"),
            (undone.cancelled_calls, "call", "cut off"),
            (len(undone.nodes), "node", "not finished"),
            (len(undone.cells), "cell", "interrupted"),
        )
        if count
    ]
    return f"; left undone: {', '.join(parts)}" if parts else ""


def report_failure(error: RLMError, models: tuple[str, ...], *, json_output: bool) -> int:
    code = exit_for_error(error)
    complain(f"error: {describe_error(error)}", error)
    if json_output:
        line = f"{type(error).__name__}: {error}"
        status = "cancelled" if code == Exit.INTERRUPTED else "failed"
        report = describe_result(error.result, models) if error.result else describe_failure(line, status)
        try:
            write_json({**report, "error": line}, sys.stdout)
        except OutputError as lost:
            complain(f"error: {lost}")
    return code
