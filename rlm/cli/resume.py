"""``rlm resume``: takes up a run that was killed, stopped, failed or met a limit. What was answered is not paid again."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

import rlm
from rlm.cli.records import engine_of, find_context, open_store, recorded_budget
from rlm.cli.running import choose_view, drive, report_failure
from rlm.core.budget import Budget
from rlm.core.errors import RLMError
from rlm.core.runs import RunInfo
from rlm.ports import Store


def resume(
    run: str | None = None,
    /,
    *files: str,
    budget: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    max_calls: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    max_tokens_total: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    timeout: Annotated[float | None, Parameter(validator=Number(gt=0))] = None,
    max_iterations: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    concurrency: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    base_url: str | None = None,
    on_divergence: Literal["stop", "pay"] = "stop",
    encoding: str = "utf-8",
    store: str | None = None,
    json_output: Annotated[bool, Parameter(name="--json", show_default=False)] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], show_default=False)] = False,
) -> int:
    """Take up a recorded run where it ended; what was answered is not paid for again.

    Parameters
    ----------
    run
        The run's id or a beginning of it, or last; if not given, the newest that was killed, stopped or failed, or met a limit.
    files
        The input again, where it was too large to be kept and is no longer where it was.
    budget
        Dollars the whole run may spend, what it has spent included. With this or one of the next four, a run goes on that
        ended because a limit was met; its other limits stay.
    max_calls
        Model calls the whole run may make.
    max_tokens_total
        Tokens the whole run may use.
    timeout
        Seconds that it may take from now on.
    max_iterations
        Turns a node may take.
    concurrency
        Model calls in flight at most.
    base_url
        Address of an OpenAI-compatible endpoint, if another than before.
    on_divergence
        What happens when a cell does something else than it did: stop, or go on and pay where it differs.
    encoding
        Of the files.
    store
        The store; RLM_STORE, else the file among your data, if not given.
    json_output
        Print one JSON object.
    quiet
        Nothing on stderr but errors.
    """
    try:
        opened = open_store(store)
        info = opened.find(run) if run is not None else _newest_open(opened)
        context = find_context(opened, info, files, encoding)
        view = None if quiet else choose_view()
        changed = {"concurrency": concurrency, "base_url": base_url, "max_iterations": max_iterations}
        limits = Budget(
            usd=budget, calls=max_calls, tokens=max_tokens_total, seconds=timeout, iterations=max_iterations
        )
        raised = None if limits == Budget() else recorded_budget(info).updated(limits)
        engine = engine_of(info, store, live=True, sinks=[view] if view else [], **changed)
    except RLMError as error:
        return report_failure(error, (), json_output=json_output)

    def start() -> rlm.RunHandle:
        return engine.start_resume(info.id, context, budget=raised, on_divergence=on_divergence)

    with engine:
        return drive(engine, view, start, json_output=json_output, quiet=quiet)


def _newest_open(store: Store) -> RunInfo:
    """The newest run that has not come to its end; the newest of all where there is none."""
    found = (info for info in store.runs() if info.status != "complete" and not info.is_running)
    return next(found, None) or store.find("last")
