"""``rlm ask``: one question over files, folders or standard input.

It reads the input and makes the engine; ``running`` does the rest. It decides nothing about how an answer is found.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

import rlm
from rlm.cli.exits import Exit, complain
from rlm.cli.inputs import STDIN_PATH, Context, Inputs, read_inputs
from rlm.cli.output import (
    OutputError,
    describe_estimate,
    write_answer,
    write_json,
)
from rlm.cli.records import choose_store
from rlm.cli.running import choose_view, drive, report_failure
from rlm.core.budget import Budget
from rlm.core.errors import ConfigurationError, RLMError


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

        def start() -> rlm.RunHandle:
            return engine.start(question, inputs.context, sources=inputs.sources)

        return drive(engine, view, start, json_output=json_output, quiet=quiet)


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
