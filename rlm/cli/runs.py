"""``rlm runs``: lists and deletes recorded runs."""

from __future__ import annotations

import json
import time
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from rlm.cli.exits import Exit, complain
from rlm.cli.flags import JsonFlag, StoreFlag
from rlm.cli.output import put
from rlm.cli.records import open_store
from rlm.core.runs import RunInfo
from rlm.views.escape import one_line
from rlm.views.formatting import plural

app = App(help="List recorded runs, the newest first.", help_format="plaintext")
DAY_S = 86_400


@app.default
def runs(
    *,
    limit: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    store: StoreFlag = None,
    json_output: JsonFlag = False,
) -> int:
    """List recorded runs, the newest first.

    Parameters
    ----------
    limit
        The number of runs at most.
    json_output
        Print one JSON object a line.
    """
    recorded = open_store(store).runs()
    lines = [(json.dumps(_as_json(info)) if json_output else _as_line(info)) + "\n" for info in recorded[:limit]]
    put("".join(lines))
    if not recorded:
        complain("the store has no runs")
    return Exit.COMPLETE


@app.command
def prune(
    *,
    keep: Annotated[int | None, Parameter(validator=Number(gte=0))] = None,
    older_than: Annotated[float | None, Parameter(validator=Number(gte=0))] = None,
    store: StoreFlag = None,
) -> int:
    """Delete runs that have ended or were killed, and free their space.

    Parameters
    ----------
    keep
        The number of newest runs to keep.
    older_than
        Delete only runs that are older than this number of days.
    """
    if keep is None and older_than is None:
        complain("error: give --keep N, --older-than DAYS, or both")
        return Exit.USAGE
    opened = open_store(store)
    latest = time.time() - (older_than or 0) * DAY_S
    doomed = [info.id for info in opened.runs()[keep or 0 :] if not info.is_running and info.touched <= latest]
    before = opened.size()
    opened.delete(doomed)
    complain(f"deleted {plural(len(doomed), 'run')}, {max(0, before - opened.size()) / 1e6:.1f} MB")
    return Exit.COMPLETE


def status_of(info: RunInfo) -> str:
    """The status of a run: running or killed, if it has not ended."""
    return info.status or ("running" if info.is_running else "killed")


def _as_line(info: RunInfo) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.started))
    return f"{info.id}  {when}  {status_of(info):<9}  {one_line(info.question, 80)}"


def _as_json(info: RunInfo) -> dict[str, object]:
    return {
        "run_id": info.id,
        "started": info.started,
        "status": status_of(info),
        "question": info.question,
        "context_bytes": info.context.size,
        "models": info.options.get("models"),
    }
