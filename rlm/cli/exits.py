"""Exit statuses, and errors as one line on stderr without a traceback. ``RLM_DEBUG=1`` shows the traceback."""

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
from rlm.core.redaction import SECRETS
from rlm.views.escape import one_line

MAX_ERROR_CHARS = 600
"""The length of a message: providers send whole HTML pages."""


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
  3    partial answer, printed: a limit was met
  4    no answer
  130  interrupted"""


def exit_for_status(status: Status) -> Exit:
    """The exit status of a run with a result."""
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
    """The exit status of a run, or of its preparation, that raised an error."""
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
    """The error in one line, with its class name if it is not an error of this package."""
    message = one_line(str(error), MAX_ERROR_CHARS)
    if isinstance(error, RLMError) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def complain(message: str, error: BaseException | None = None) -> None:
    """Writes one line to stderr, if it is open; after the traceback, if RLM_DEBUG is set."""
    if sys.stderr is None:
        return
    try:
        if error is not None and os.environ.get("RLM_DEBUG"):
            sys.stderr.write(SECRETS.redact_message("".join(traceback.format_exception(error))))
        sys.stderr.write(SECRETS.redact_message(f"rlm: {message}\n"))
        sys.stderr.flush()
    except OSError:  # stderr has no reader left: the exit status remains
        return
