"""``rlm chat``: questions over the same input, one after the other, at a prompt or from lines of standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import rlm
from rlm.cli.chat_prompt import ChatPrompt
from rlm.cli.exits import Exit, complain, exit_for_error, exit_for_status
from rlm.cli.flags import QuietFlag, read_flags, with_flags
from rlm.cli.output import put
from rlm.cli.reading import Input, ReadingFlags, describe_reading, list_documents, read_input
from rlm.cli.records import continue_session
from rlm.cli.running import choose_view, report, report_failure, wait_for
from rlm.cli.show import render_tree
from rlm.core.errors import ConfigurationError, RLMError
from rlm.core.observations import list_variables
from rlm.core.result import Result
from rlm.documents.values import Documents
from rlm.views.escape import one_line, safe_text
from rlm.views.formatting import format_cost, plural

NO_FILTERS = ReadingFlags()

COMMANDS = {
    "/cost": "calls, tokens and dollars of this session",
    "/vars": "the variables of the REPL",
    "/files": "the files that were read",
    "/show": "cells and calls of the last question",
    "/save FILE": "write questions and answers to a Markdown file",
    "/resume": "continue the question at which an earlier process ended",
    "/help": "this list",
    "/quit": "end the session; so does Ctrl-D",
}


@with_flags()
def chat(
    *files: str,
    continue_run: Annotated[str | None, Parameter(name="--continue", show_default=False)] = None,
    reading: ReadingFlags = NO_FILTERS,
    quiet: QuietFlag = False,
    **given: Any,
) -> int:
    """Ask several questions over the same files, with the variables and the conversation of earlier ones.

    Ctrl-C ends the question with what it has, a second Ctrl-C cancels it; the session goes on. If standard input is not a
    terminal, each of its lines is a question.

    Parameters
    ----------
    files
        Files, folders, patterns, archives and addresses. None: a conversation without an input.
    continue_run
        Continue the session of this recorded run, with its variables; last is the newest.
    """
    try:
        talk = (
            _continued(continue_run, files, given, quiet=quiet)
            if continue_run
            else _new(files, reading, given, quiet=quiet)
        )
    except RLMError as error:
        return report_failure(error, (), json_output=False)
    with talk.engine, talk.session:
        return _converse(talk, quiet=quiet)


class Talk:
    """A session at the command line: its engine, its documents, and its questions with their answers."""

    def __init__(self, engine: rlm.RLM, session: rlm.Session, documents: Documents | None, *, quiet: bool) -> None:
        self.engine = engine
        self.session = session
        self.documents = documents
        self.code = Exit.COMPLETE
        self.said: list[tuple[str, Result]] = []
        self._quiet = quiet

    def take(self, line: str) -> bool:
        """Takes one line: a question, or a command. False ends the conversation."""
        line = line.strip()
        if not line.startswith("/"):
            if line:
                self._ask(line)
            return True
        name, _, rest = line.partition(" ")
        match name:
            case "/quit" | "/exit":
                return False
            case "/cost":
                put(self._cost() + "\n")
            case "/vars":
                put((safe_text(list_variables(self.session.variables)) or "no variables yet") + "\n")
            case "/files":
                put((list_documents(self.documents) if self.documents is not None else "no documents") + "\n")
            case "/show":
                self._show()
            case "/save":
                self._save(rest.strip())
            case "/resume":
                self._ask(None)
            case _:
                unknown = "" if name == "/help" else f"{one_line(name, 40)} is not a command.\n"
                put(unknown + "".join(f"{command:<12}{summary}\n" for command, summary in COMMANDS.items()))
        return True

    def _ask(self, question: str | None) -> None:
        """Asks a question; None continues the one that was cut off."""
        view = None if self._quiet else choose_view()
        watching: AbstractContextManager[object] = view or nullcontext()
        sinks = [view] if view else []
        cut_off = self.session.cut_off
        try:
            with watching:
                if question is None:
                    handle = self.session.start_resume(sinks=sinks)
                    question = cut_off.text if cut_off else ""
                else:
                    handle = self.session.start(question, sinks=sinks)
                result = wait_for(handle)
        except KeyboardInterrupt as stopped:
            if type(stopped) is not KeyboardInterrupt:
                raise  # the process is asked to end
            complain("the question was cancelled; the session goes on")
            self.code = Exit.INTERRUPTED
            return
        except RLMError as error:
            report_failure(error, self.engine.model_names, json_output=False)
            self.code = exit_for_error(error)
            return
        report(result, self.engine.model_names, json_output=False, quiet=self._quiet)
        self.said.append((question, result))
        self.code = exit_for_status(result.status)

    def _cost(self) -> str:
        total = self.session.usage.total
        questions = plural(len(self.said), "question")
        return (
            f"{questions}, {plural(total.usage.calls, 'call')}, {total.usage.total_tokens:,} tokens "
            f"({total.usage.cached_tokens:,} from the provider's cache), {format_cost(total)}"
        )

    def _show(self) -> None:
        result = self.session.last_result
        if result is None or result.tree is None:
            put("no question yet\n")
            return
        put(render_tree(result.tree) + "\n")

    def _save(self, name: str) -> None:
        if not name:
            complain("name the file: /save answers.md")
            return
        try:
            with Path(name).expanduser().open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"## {question}\n\n{result}\n\n" for question, result in self.said)
        except OSError as error:
            complain(f"error: {one_line(name, 200)} cannot be written: {error.strerror}")
            return
        put(f"{plural(len(self.said), 'answer')} saved to {one_line(name, 200)}\n")


def _new(files: tuple[str, ...], reading: ReadingFlags, given: dict[str, Any], *, quiet: bool) -> Talk:
    read = read_input(files, None, reading, quiet=quiet) if files else Input(None, None, ())
    if read.documents is not None and not quiet and (summary := describe_reading(read.documents)):
        complain(summary)
    engine = rlm.RLM(**read_flags(given))
    return Talk(engine, engine.session(read.context, sources=read.sources), read.documents, quiet=quiet)


def _continued(run: str, files: tuple[str, ...], given: dict[str, Any], *, quiet: bool) -> Talk:
    engine, session, context = continue_session(run, files, given)
    if session.cut_off is not None:
        complain(f"the last question was cut off: {one_line(session.cut_off.text)!r}. /resume continues it")
    return Talk(engine, session, context if isinstance(context, Documents) else None, quiet=quiet)


def _converse(talk: Talk, *, quiet: bool) -> int:
    for line in _lines(talk, quiet=quiet):
        if not talk.take(line):
            break
    if talk.session.run_ids and talk.engine.can_resume and not quiet:
        complain(f"to continue this session: rlm chat --continue {talk.session.run_ids[-1]}")
    return Exit.COMPLETE if sys.stdin.isatty() else talk.code


def _lines(talk: Talk, *, quiet: bool) -> Iterator[str]:
    if sys.stdin is None:
        raise ConfigurationError("rlm chat needs standard input: a terminal, or a pipe with one question a line.")
    if not sys.stdin.isatty():
        for line in sys.stdin:  # noqa: UP028  "yield from" would close it
            yield line
        return
    if not quiet:
        complain("ask a question; /help lists the commands, Ctrl-D ends the session")
    yield from ChatPrompt([command.split()[0] for command in COMMANDS], lambda: _words(talk)).lines()


def _words(talk: Talk) -> list[str]:
    """The names that the prompt completes besides commands: variables and documents."""
    paths = [] if talk.documents is None else [document.path for document in talk.documents]
    return [*(variable.name for variable in talk.session.variables), *paths]
