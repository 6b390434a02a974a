"""What the process's exit status means, and how an error is put to a person: one line, no traceback.

``RLM_DEBUG=1`` shows the traceback. Answers never pass through here.
"""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum

from rlm.core.errors import (
    BudgetExceededError,
    ConfigurationError,
    ContextError,
    IncompleteRecordError,
    NoAnswerError,
    RLMError,
    RunCancelledError,
    UnknownRunError,
)
from rlm.core.events import Status
from rlm.views.escape import one_line

MAX_ERROR_CHARS = 600
"""Of a message: providers put whole HTML pages in theirs."""


class Exit(IntEnum):
    COMPLETE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    NO_ANSWER = 4
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_HELP = """\
Exit status:
  0    complete answer
  1    the run failed: model, provider or sandbox
  2    wrong usage, configuration or input
  3    partial answer, printed all the same: a limit was met
  4    no answer
  130  interrupted"""


def exit_for_status(status: Status) -> Exit:
    """The exit status of a run that gave a result."""
    match status:
        case "complete":
            return Exit.COMPLETE
        case "partial":
            return Exit.PARTIAL
        case "failed":
            return Exit.FAILED
        case "cancelled":
            return Exit.INTERRUPTED


def exit_for_error(error: BaseException) -> Exit:
    """The exit status of a run, or of its preparation, that raised."""
    match error:
        case ConfigurationError() | ContextError() | UnknownRunError() | IncompleteRecordError():
            return Exit.USAGE
        case NoAnswerError() | BudgetExceededError():
            return Exit.NO_ANSWER
        case RunCancelledError() | KeyboardInterrupt():
            return Exit.INTERRUPTED
        case _:
            return Exit.FAILED


def describe_error(error: BaseException) -> str:
    """The error in one line, with its class name where the message was not written for people."""
    message = one_line(str(error), MAX_ERROR_CHARS)
    if isinstance(error, RLMError) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def complain(message: str, error: BaseException | None = None) -> None:
    """Writes one line to stderr, where there is one; before it the traceback when RLM_DEBUG is set."""
    if sys.stderr is None:
        return
    try:
        if error is not None and os.environ.get("RLM_DEBUG"):
            traceback.print_exception(error)
        sys.stderr.write(f"rlm: {message}\n")
        sys.stderr.flush()
    except OSError:  # nobody reads stderr any more: the exit status still tells
        return
