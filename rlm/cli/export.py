"""``rlm export``: a recorded run as one HTML page, or its events as JSON lines."""

from __future__ import annotations

from typing import Literal

from rlm.cli.exits import Exit
from rlm.cli.flags import StoreFlag
from rlm.cli.output import put
from rlm.cli.records import open_store
from rlm.report.page import event_lines, page_of_events
from rlm.runtime.stored_runs import recorded_measurement


def export(
    run: str = "last",
    /,
    *,
    format: Literal["jsonl", "html"] = "html",  # noqa: A002  the option's name
    store: StoreFlag = None,
) -> int:
    """Write a recorded run to standard output.

    Parameters
    ----------
    run
        The run's id or a prefix of it; the newest if not given.
    format
        html: one self-contained page with tree, timeline, cells and calls. jsonl: every event as a line of JSON.
    """
    opened = open_store(store)
    info = opened.find(run)
    events = opened.events(info.id, lenient=True)
    if format == "jsonl":
        put("".join(event_lines(events)))
    else:
        measurement = recorded_measurement(opened, info, events)
        put(page_of_events(info.id, events, None if measurement is None else measurement.value))
    return Exit.COMPLETE
