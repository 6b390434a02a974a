"""``rlm export``: a recorded run as one HTML page, or its events as JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rlm.cli.contexts import find_context
from rlm.cli.exits import Exit, complain
from rlm.cli.flags import EncodingFlag, StoreFlag
from rlm.cli.output import put
from rlm.cli.records import open_store
from rlm.core.errors import ContextError, IncompleteRecordError
from rlm.core.events import AnyEvent, RunStarted
from rlm.core.result import CoverageOfRun
from rlm.core.runs import RunInfo
from rlm.ports import Store
from rlm.report.page import event_lines, page_of_events
from rlm.runtime.stored_runs import recorded_measurement
from rlm.views.escape import one_line


def export(
    run: str = "last",
    /,
    *files: str,
    format: Literal["jsonl", "html"] = "html",  # noqa: A002  the option's name
    encoding: EncodingFlag = None,
    store: StoreFlag = None,
) -> int:
    """Write a recorded run to standard output.

    Parameters
    ----------
    run
        The run's id or a prefix of it; the newest if not given.
    files
        The files of the run's context, if it was too large to be stored and they have moved.
    format
        html: one self-contained page with tree, timeline, cells, calls, citations and documents. jsonl: every event as a line of
        JSON.
    encoding
        The encoding of these files; detected if not given.
    """
    opened = open_store(store)
    info = opened.find(run)
    events = opened.events(info.id, lenient=True)
    if format == "jsonl":
        put("".join(event_lines(events)))
    else:
        measurement = _measure(opened, info, events, files, encoding)
        put(page_of_events(info.id, events, measurement))
    return Exit.COMPLETE


def _measure(
    store: Store, info: RunInfo, events: Sequence[AnyEvent], files: Sequence[str], encoding: str | None
) -> CoverageOfRun | None:
    """The sources of the run. A page without them is still of use, so that a reason on stderr is all if they are gone."""
    if not files and not any(isinstance(event, RunStarted) and event.side_table for event in events):
        return None
    try:
        return recorded_measurement(store, info, events, find_context(store, info, files, encoding))
    except (IncompleteRecordError, ContextError) as error:
        complain(f"the page has no documents: {one_line(str(error), 300)}")
        return None
