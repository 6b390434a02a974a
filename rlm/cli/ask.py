"""``rlm ask``: one question over files, folders or standard input.

It reads the input and makes the engine; ``running`` does the rest. It decides nothing about how an answer is found.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Annotated, Any

from cyclopts import Parameter

import rlm
from rlm.cli.exits import Exit, complain
from rlm.cli.flags import JsonFlag, QuietFlag, read_flags, with_flags
from rlm.cli.output import OutputError, describe_estimate, write_answer, write_json
from rlm.cli.reading import Input, ReadingFlags, describe_reading, is_path, list_documents, read_input
from rlm.cli.records import continue_session
from rlm.cli.running import choose_view, drive, report_failure
from rlm.cli.schemas import read_schema
from rlm.core.cells import PlainValue
from rlm.core.errors import ConfigurationError, RLMError
from rlm.documents.sources import STDIN_NAMES
from rlm.documents.values import Documents

NO_FILTERS = ReadingFlags()


@with_flags()
def ask(
    question: str,
    /,
    *files: str,
    schema: Annotated[str | None, Parameter(show_default=False)] = None,
    estimate: Annotated[bool, Parameter(show_default=False)] = False,
    list_files: Annotated[bool, Parameter(show_default=False)] = False,
    continue_run: Annotated[str | None, Parameter(name="--continue", show_default=False)] = None,
    reading: ReadingFlags = NO_FILTERS,
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
        Files, folders, patterns, archives and addresses; - or nothing reads standard input. Several become a dict of path to
        text.
    schema
        The type of the answer: a JSON schema FILE.json, fields such as 'name, age int, tags list[str]', or module:Class.
    estimate
        Print the size, calls and cost to expect, and spend nothing.
    continue_run
        Ask the next question of the session of this recorded run, with its input, variables and conversation.
    list_files
        Print a table of the files that would be read, and ask nothing.
    json_output
        Print one JSON object: answer, status, usage, cost_usd, run_id, elapsed_s, models, limit, error, documents,
        tool_calls.
    """
    if continue_run is not None:
        return _continue(question, continue_run, files, schema, given, json_output=json_output, quiet=quiet)
    try:
        answer_type: Any = read_schema(schema)
        if list_files and (not files or is_path(question) or "://" in question):
            files = (question, *files)
        given_input = _read(question, files, reading, quiet=quiet)
        documents = given_input.documents
        if list_files:
            return _list(documents, json_output=json_output)
        summary = [] if documents is None else [describe_reading(documents)]
        for note in [] if quiet else [*filter(None, summary), *_default_notes(given.get("model"))]:
            complain(note)
        view = None if quiet else choose_view()
        engine = rlm.RLM(**read_flags(given), sinks=[view] if view else [])
    except RLMError as error:
        return report_failure(error, (), json_output=json_output)
    with engine:
        if estimate:
            return _estimate(engine, given_input.context, json_output=json_output)

        def start() -> rlm.RunHandle:
            return engine.start(question, given_input.context, schema=answer_type, sources=given_input.sources)

        return drive(engine, view, start, json_output=json_output, quiet=quiet, documents=documents)


def _continue(
    question: str,
    run: str,
    files: tuple[str, ...],
    schema: str | None,
    given: dict[str, Any],
    *,
    json_output: bool,
    quiet: bool,
) -> int:
    """Asks the next question of a recorded session."""
    try:
        answer_type: Any = read_schema(schema)
        view = None if quiet else choose_view()
        engine, session, _ = continue_session(run, files, given)
    except RLMError as error:
        return report_failure(error, (), json_output=json_output)

    def start() -> rlm.RunHandle:
        return session.start(question, schema=answer_type, sinks=[view] if view else [])

    with engine, session:
        return drive(engine, view, start, json_output=json_output, quiet=quiet)


def _estimate(engine: rlm.RLM, context: PlainValue, *, json_output: bool) -> int:
    expected = engine.estimate(context)
    described = describe_estimate(expected, engine.model_names)
    return _print(dataclasses.asdict(expected) if json_output else described)


def _list(documents: Documents | None, *, json_output: bool) -> int:
    if documents is None:
        return _print("one large text file, which is handed over open")
    return _print(documents.to_dict() if json_output else list_documents(documents))


def _print(report: dict[str, Any] | str) -> int:
    try:
        if isinstance(report, str):
            write_answer(report, sys.stdout)
        else:
            write_json(report, sys.stdout)
    except OutputError as error:
        complain(f"error: {error}")
        return Exit.FAILED
    return Exit.COMPLETE


def _read(question: str, files: tuple[str, ...], reading: ReadingFlags, *, quiet: bool) -> Input:
    if not question.strip():
        raise ConfigurationError('the question is empty: rlm ask "..." FILE')
    if files and is_path(question) and not is_path(files[0]) and files[0] not in STDIN_NAMES and " " in files[0]:
        raise ConfigurationError('the question must come first: rlm ask "..." FILE')
    is_piped = sys.stdin is not None and (not sys.stdin.isatty() or bool(STDIN_NAMES.intersection(files)))
    return read_input(files, sys.stdin.buffer if is_piped else None, reading, quiet=quiet)


def _default_notes(model: str | None) -> list[str]:
    """A line that names the default models, if the caller named none."""
    if model is not None:
        return []
    note = rlm.default_models(os.environ).note
    return [note] if note else []
