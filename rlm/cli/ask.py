"""``rlm ask``: one question over files, folders or standard input.

It reads the input and makes the engine; ``running`` does the rest. It decides nothing about how an answer is found.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import rlm
from rlm.cli.exits import Exit, complain
from rlm.cli.flags import EncodingFlag, JsonFlag, QuietFlag, read_flags, with_flags
from rlm.cli.inputs import STDIN_PATH, Context, Inputs, read_inputs
from rlm.cli.output import OutputError, describe_estimate, write_answer, write_json
from rlm.cli.running import choose_view, drive, report_failure
from rlm.core.errors import ConfigurationError, RLMError


@with_flags()
def ask(
    question: str,
    /,
    *files: str,
    estimate: Annotated[bool, Parameter(show_default=False)] = False,
    encoding: EncodingFlag = "utf-8",
    json_output: JsonFlag = False,
    quiet: QuietFlag = False,
    **given: Any,
) -> int:
    """Ask one question over files, folders or standard input, of any size.

    Parameters
    ----------
    question
        The question.
    files
        Files, or folders with their text files; - or nothing reads standard input. Several become a dict of path to text.
    estimate
        Print the size, calls and cost to expect, and spend nothing.
    json_output
        Print one JSON object: answer, status, usage, cost_usd, run_id, elapsed_s, models, limit, error.
    """
    try:
        inputs = _read(question, files, encoding)
        for note in [] if quiet else [*inputs.notes, *_default_notes(given.get("model"))]:
            complain(note)
        view = None if quiet else choose_view()
        engine = rlm.RLM(**read_flags(given), sinks=[view] if view else [])
    except RLMError as error:
        return report_failure(error, (), json_output=json_output)
    with engine:
        if estimate:
            return _estimate(engine, inputs.context, json_output=json_output)

        def start() -> rlm.RunHandle:
            return engine.start(question, inputs.context, sources=inputs.sources)

        return drive(engine, view, start, json_output=json_output, quiet=quiet)


def _estimate(engine: rlm.RLM, context: Context, *, json_output: bool) -> int:
    expected = engine.estimate(context)
    try:
        if json_output:
            write_json(dataclasses.asdict(expected), sys.stdout)
        else:
            write_answer(describe_estimate(expected, engine.model_names), sys.stdout)
    except OutputError as error:
        complain(f"error: {error}")
        return Exit.FAILED
    return Exit.COMPLETE


def _read(question: str, files: tuple[str, ...], encoding: str) -> Inputs:
    if not question.strip():
        raise ConfigurationError('the question is empty: rlm ask "..." FILE')
    if Path(question).is_file() and files and not Path(files[0]).exists() and files[0] != STDIN_PATH:
        raise ConfigurationError('the question must come first: rlm ask "..." FILE')
    stdin = None if sys.stdin is None or (sys.stdin.isatty() and STDIN_PATH not in files) else sys.stdin.buffer
    return read_inputs(files, stdin, encoding=encoding)


def _default_notes(model: str | None) -> list[str]:
    """A line that names the default models, if the caller named none."""
    if model is not None:
        return []
    note = rlm.default_models(os.environ).note
    return [note] if note else []
