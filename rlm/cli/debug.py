"""``rlm debug``: a prompt in a node's REPL after one of its turns, rebuilt from the record. Asks no model."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from rlm.cli.contexts import find_context
from rlm.cli.exits import Exit, complain
from rlm.cli.flags import EncodingFlag, StoreFlag, read_flags, with_flags
from rlm.cli.records import open_replay, open_store
from rlm.core.cells import Cell
from rlm.core.errors import ConfigurationError
from rlm.core.events import CellExecuted
from rlm.core.ids import NodeId
from rlm.core.subcalls import Subcall, SubcallFailure, SubcallOutcome
from rlm.ports import Repl
from rlm.runtime.authority import REPLAY_FLAGS
from rlm.views.escape import safe_text

FIRST_NUMBER = 9001  # of the cells typed here, far from recorded ones


class PromptClosed(Exception):
    """The user has closed the prompt."""


@with_flags(recorded=REPLAY_FLAGS)
def debug(
    run: str = "last",
    /,
    *files: str,
    at: str,
    encoding: EncodingFlag = None,
    store: StoreFlag = None,
    **given: Any,
) -> int:
    """Open a prompt in the rebuilt REPL of a recorded node, after one of its turns.

    Parameters
    ----------
    run
        The run's id or a prefix of it; the newest if not given.
    files
        The input, if it was too large to be stored and has moved.
    at
        NODE/TURN, for instance 0/2: the root after its second turn. rlm show names the nodes.
    """
    opened = open_store(store)
    info = opened.find(run)
    node, _, turn = at.rpartition("/")
    cells = [
        event.cell
        for event in opened.events(info.id)
        if isinstance(event, CellExecuted) and event.node == node and str(event.cell.turn) == turn
    ]
    if not cells:
        raise ConfigurationError(
            f"run {info.id} has no finished cell at {at!r}: `--at` must be NODE/TURN, see rlm show {info.id}"
        )
    last = cells[-1]

    async def watch(where: NodeId, cell: Cell, repl: Repl) -> None:
        if where == node and cell == last:
            await _converse(repl, cell, at)
            raise PromptClosed

    context = find_context(opened, info, files, encoding)
    with open_replay(info, store, read_flags(given)) as engine:
        try:
            engine.replay(info.id, context, watch=watch)
        except PromptClosed:
            return Exit.COMPLETE
    complain(f"{at} was not reached")
    return Exit.FAILED


async def _converse(repl: Repl, cell: Cell, at: str) -> None:
    number = FIRST_NUMBER
    interactive = sys.stdin.isatty()
    while True:
        prompt = f"{at}> " if interactive else ""
        line = await asyncio.to_thread(_read_line, prompt)
        if line is None:
            return
        result = await repl.execute(Cell(cell.turn, number, line, cell.clock_s), _refuse)
        number += 1
        if result.shown:
            sys.stdout.write(safe_text(result.shown) + "\n")
            sys.stdout.flush()


def _read_line(prompt: str) -> str | None:
    try:
        return input(prompt)
    except EOFError:
        return None


async def _refuse(_subcall: Subcall) -> SubcallOutcome:
    return SubcallFailure("NoModel", "no model is asked in rlm debug")
