"""``rlm resume``: continues a run that was killed, stopped, failed or met a limit. Recorded answers are not paid for again."""

from __future__ import annotations

from typing import Any, Literal

import rlm
from rlm.cli.contexts import find_context
from rlm.cli.flags import EncodingFlag, JsonFlag, QuietFlag, StoreFlag, read_flags, with_flags
from rlm.cli.records import open_recorded, open_store, recorded_budget
from rlm.cli.running import choose_view, drive, report_failure
from rlm.core.budget import Budget
from rlm.core.errors import RLMError
from rlm.core.runs import RunInfo
from rlm.options import DECLARED
from rlm.ports import Store
from rlm.runtime.authority import RESUME_FLAGS

CHANGEABLE = [name for name, declared in DECLARED.items() if declared.changeable]


@with_flags(recorded={*CHANGEABLE, *RESUME_FLAGS})
def resume(
    run: str | None = None,
    /,
    *files: str,
    on_divergence: Literal["stop", "pay"] = "stop",
    encoding: EncodingFlag = None,
    store: StoreFlag = None,
    json_output: JsonFlag = False,
    quiet: QuietFlag = False,
    **given: Any,
) -> int:
    """Resume a recorded run, with its options; recorded answers are not paid again.

    A run that met a limit continues if a flag raises one; its other limits stay. Limits include what the run has already
    spent. A record grants no rights: give weaker isolation, packages, setup code, an address, or a model that is
    a file again, by their flags.

    Parameters
    ----------
    run
        The run's id or a prefix of it, or last; if not given, the newest that was killed, stopped or failed, or met a limit.
    files
        The input, if it was too large to be stored and has moved.
    on_divergence
        The reaction to a cell that diverges from its recording: stop, or pay for the calls that differ.
    json_output
        Print one JSON object.
    """
    try:
        opened = open_store(store)
        info = opened.find(run) if run is not None else _newest_open(opened)
        context = find_context(opened, info, files, encoding)
        view = None if quiet else choose_view()
        changed = read_flags(given)
        raised = _raised_budget(info, changed)
        engine = open_recorded(info, store, changed, sinks=[view] if view else [])
    except RLMError as error:
        return report_failure(error, (), json_output=json_output)

    def start() -> rlm.RunHandle:
        return engine.start_resume(info.id, context, budget=raised, on_divergence=on_divergence)

    with engine:
        return drive(engine, view, start, json_output=json_output, quiet=quiet)


def _raised_budget(info: RunInfo, changed: dict[str, Any]) -> Budget | None:
    """The recorded limits with those of the command line; None if it names none."""
    limits = changed.get("budget", Budget()).updated(Budget(iterations=changed.get("max_iterations")))
    return None if limits == Budget() else recorded_budget(info).updated(limits)


def _newest_open(store: Store) -> RunInfo:
    """The newest run that is not complete; the newest of all if every run is."""
    unfinished = (info for info in store.runs() if info.status != "complete" and not info.is_running)
    return next(unfinished, None) or store.find("last")
