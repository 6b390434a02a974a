"""The entry point of ``rlm``: dispatches to a command, and turns any error into one line and an exit status.

Commands are named by import string and loaded when called: add a line here and a file beside this one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from rlm import __version__
from rlm.cli.exits import EXIT_HELP, Exit, complain, describe_error, exit_for_error
from rlm.cli.output import forget_stdout
from rlm.core.redaction import SECRETS, secrets_of_environment
from rlm.sandbox.launchers.zygote_process import EARLY
from rlm.views.escape import one_line

app = App(
    name="rlm",
    help="Answer questions over inputs larger than any context window, with Recursive Language Models.",
    help_epilogue=EXIT_HELP,
    help_format="plaintext",
    version=__version__,
    default_parameter=Parameter(negative=""),
    suppress_keyboard_interrupt=False,
    exit_on_error=False,
    print_error=False,
    result_action="return_value",
)
app.command(
    "rlm.cli.ask:ask",
    name="ask",
    help="Ask one question over files, folders or standard input.",
    usage="Usage: rlm ask [OPTIONS] QUESTION [FILE...]",
)
app.command(
    "rlm.cli.chat:chat",
    name="chat",
    help="Ask several questions over the same files, with earlier variables and answers.",
    usage="Usage: rlm chat [OPTIONS] [FILE...]",
)
app.command("rlm.cli.runs:app", name="runs", help="List recorded runs; rlm runs prune deletes them.")
app.command("rlm.cli.show:show", name="show", help="Show one recorded run: its tree, cells, calls and costs.")
app.command("rlm.cli.resume:resume", name="resume", help="Resume a recorded run; recorded answers are not paid again.")
app.command("rlm.cli.replay:replay", name="replay", help="Execute a recorded run again without any model, and compare.")
app.command("rlm.cli.export:export", name="export", help="Write a recorded run as one HTML page, or as JSON lines.")
app.command("rlm.cli.cache:app", name="cache", help="Show, empty and limit the cache of converted documents.")
app.command(
    "rlm.cli.debug:debug", name="debug", help="Open a prompt in a recorded node's REPL, after one of its turns."
)
app.command("rlm.cli.eval:app", name="eval", help="Compare ways of answering on tasks with exact answers.")
app.command(
    "rlm.cli.doctor:doctor",
    name="doctor",
    help="Test the isolation of this machine with every escape probe, and show its configuration.",
)


SANDBOX_COMMANDS = frozenset({"ask", "chat", "resume"})
OTHER_SANDBOXES = ("--sandbox", "--help", "-h", "--estimate", "--list-files")
"""Beginnings of flags with which no sandbox, or another one, is needed."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, or a closed terminal. It unwinds like a second Ctrl-C, so that the cursor is restored."""


def main(tokens: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        tokens: the command line without the program's name; the process's own if None.

    Returns:
        The exit status, see ``rlm.cli.exits``.
    """
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) is not signal.SIG_IGN:  # nohup
            signal.signal(name, _terminate)
    SECRETS.add(secrets_of_environment(os.environ))
    given = sys.argv[1:] if tokens is None else tokens
    try:
        _start_early(given)
        # The parser would read a lone "-" as an option.
        code = app(["/dev/stdin" if word == "-" else word for word in given])
    except CycloptsError as error:
        complain(f"error: {one_line(str(error), 300)} ({_hint(given)})", error)
        return Exit.USAGE
    except Terminated:
        complain("terminated")
        return Exit.TERMINATED
    except KeyboardInterrupt:
        complain("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        forget_stdout()
        return Exit.COMPLETE
    except Exception as error:  # noqa: BLE001  (a user gets one line; a developer sets RLM_DEBUG)
        complain(f"error: {describe_error(error)} (RLM_DEBUG=1 shows the traceback)", error)
        return exit_for_error(error)
    finally:
        EARLY.discard()  # of a command that failed before it needed its sandbox
    return code if isinstance(code, int) else Exit.COMPLETE


def _start_early(tokens: Sequence[str]) -> None:
    """Starts the sandbox of commands that need one, while their modules are imported: each takes a fifth of a second."""
    if not tokens or tokens[0] not in SANDBOX_COMMANDS or sys.platform != "linux":
        return
    if not any(word.startswith(OTHER_SANDBOXES) for word in tokens):
        EARLY.start("strict")


def _hint(tokens: Sequence[str]) -> str:
    if tokens and tokens[0] == "ask":
        if "--" not in tokens and any(word.startswith("-") and " " in word for word in tokens):
            return 'a question that begins with a dash follows "--": rlm ask [OPTIONS] -- "QUESTION" FILE'
        return "see: rlm ask --help"
    return "see: rlm --help"


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def run() -> NoReturn:
    """The command ``rlm``: runs one command and ends the process.

    The interpreter is not torn down. Its shutdown aborts the process if a background thread is inside an extension module, or
    writes to a stream, at that moment. Everything that an exit has to do is registered with ``atexit``, and is done.
    """
    code = main()
    with contextlib.suppress(KeyboardInterrupt):  # a further Ctrl-C ends the process at once
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # no reader is left, or the stream is closed
                stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
