"""``rlm replay``: executes a recorded run again without any model, and compares it with the record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlm.cli.contexts import find_context
from rlm.cli.exits import Exit, complain, describe_error
from rlm.cli.flags import EncodingFlag, StoreFlag, read_flags, with_flags
from rlm.cli.records import open_replay, open_store
from rlm.core.errors import DivergenceError, RLMError
from rlm.core.events import AnyEvent, RunFinished
from rlm.runtime.authority import REPLAY_FLAGS
from rlm.views.escape import one_line
from rlm.views.formatting import plural


@with_flags(recorded=REPLAY_FLAGS)
def replay(
    run: str = "last", /, *files: str, encoding: EncodingFlag = None, store: StoreFlag = None, **given: Any
) -> int:
    """Execute a recorded run again in the real sandbox, without any model, and compare it with its record.

    The exit status is 0 if everything is the same, including a failure, and 1 otherwise: a recorded run is a regression test.
    A record grants no rights: weaker isolation, packages, and setup code must be given again by their flags.

    Parameters
    ----------
    run
        The run's id or a prefix of it; the newest if not given.
    files
        The input, if it was too large to be stored and has moved.
    """
    opened = open_store(store)
    info = opened.find(run)
    context = find_context(opened, info, files, encoding)
    with open_replay(info, store, read_flags(given)) as engine:
        try:
            result = engine.replay(info.id, context)
        except DivergenceError as error:
            complain(f"differs: {describe_error(error)}")
            return Exit.FAILED
        except RLMError as error:
            message = f"{type(error).__name__}: {error}"
            if message != _recorded_error(opened.events(info.id)):
                raise
            complain(f"the same: run {info.id} failed with {one_line(message, 200)}")
            return Exit.COMPLETE
    nodes = plural(len(result.tree.walk()) if result.tree else 0, "node")
    complain(f"the same: run {info.id}, {nodes}, answer {one_line(str(result))}")
    return Exit.COMPLETE


def _recorded_error(events: Sequence[AnyEvent]) -> str | None:
    last = events[-1] if events else None
    return last.error if isinstance(last, RunFinished) else None
