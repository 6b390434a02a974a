"""``rlm replay``: executes a recorded run again without any model, and says whether everything is the same."""

from __future__ import annotations

from collections.abc import Sequence

from rlm.cli.exits import Exit, complain, describe_error
from rlm.cli.records import engine_of, find_context, open_store
from rlm.core.errors import DivergenceError, RLMError
from rlm.core.events import AnyEvent, RunFinished
from rlm.views.escape import one_line
from rlm.views.formatting import plural


def replay(run: str = "last", /, *files: str, encoding: str = "utf-8", store: str | None = None) -> int:
    """Execute a recorded run again in the real sandbox, without any model, and compare everything it does.

    The exit status is 0 when all is the same, a failure too, and 1 when something differs: a recorded run is a regression test.

    Parameters
    ----------
    run
        The run's id or a beginning of it; the newest if not given.
    files
        The input again, where it was too large to be kept and is no longer where it was.
    encoding
        Of the files.
    store
        The store; RLM_STORE, else the file among your data, if not given.
    """
    opened = open_store(store)
    info = opened.find(run)
    context = find_context(opened, info, files, encoding)
    with engine_of(info, store, live=False) as engine:
        try:
            result = engine.replay(info.id, context)
        except DivergenceError as error:
            complain(f"differs: {describe_error(error)}")
            return Exit.FAILED
        except RLMError as error:
            told = f"{type(error).__name__}: {error}"
            if told != _error_of(opened.events(info.id)):
                raise
            complain(f"the same: run {info.id} failed with {one_line(told, 200)}")
            return Exit.COMPLETE
    nodes = plural(len(result.tree.walk()) if result.tree else 0, "node")
    complain(f"the same: run {info.id}, {nodes}, answer {one_line(str(result))}")
    return Exit.COMPLETE


def _error_of(events: Sequence[AnyEvent]) -> str | None:
    """What a recorded run failed with."""
    last = events[-1] if events else None
    return last.error if isinstance(last, RunFinished) else None
