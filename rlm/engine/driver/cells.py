"""Executes the cells of nodes: new ones, those of an earlier process again, and all of a node's when its REPL was lost.

Executing a cell again is safe because everything outside that it can depend on comes from the record: the answers to its
sub-calls, in their order, the time of day and what is random. A difference all the same is a DivergenceError.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial

from rlm.core.actions import Executed
from rlm.core.cells import Cell, CellResult
from rlm.core.divergence import find_difference
from rlm.core.errors import DivergenceError
from rlm.core.events import CellExecuted, CellStarted
from rlm.core.history import RecordedCell
from rlm.core.subcalls import Subcall, SubcallFailure, SubcallOutcome
from rlm.engine.driver.subcall_site import CellExecution
from rlm.engine.driver.subcalls import SubcallServer
from rlm.engine.recorder import Recorder
from rlm.engine.replay.policy import CellRun, Repetition
from rlm.engine.settings import NodeJob
from rlm.engine.spending.limits import Remaining
from rlm.ports import Repl, ServeSubcall

logger = logging.getLogger(__name__)

REBUILT = (
    "The variables of earlier cells are there again: those cells were run once more. Nothing of this cell was kept."
)
MAX_TRIES = 3  # of a cell whose process is killed from outside
# The sandbox replaces a process that ended: how a record says "all was lost here".
CLEAN_REPL = "import os\nos._exit(1)"


class _Killed(Exception):
    """A cell's process, from outside, while the cell was executed again."""


class CellDriver:
    """One for each run. ``epoch_s`` is the time of day at which the recorder's time is 0; 0 leaves cells the real clock."""

    def __init__(
        self,
        subcalls: SubcallServer,
        recorder: Recorder,
        repetition: Repetition,
        remaining: Remaining,
        epoch_s: float,
    ) -> None:
        self._subcalls = subcalls
        self._remaining = remaining
        self._recorder = recorder
        self._repetition = repetition
        self._epoch_s = epoch_s

    async def execute(self, job: NodeJob, repl: Repl, cell: Cell, limit: str | None) -> Executed:
        """Runs one cell, or runs it again as it is recorded. ``limit`` names a limit that forbids its sub-calls."""
        recorded = self._repetition.history.cell(job.id, cell)
        if recorded is None:
            at_s = self._recorder.at_s
            cell = replace(cell, clock_s=self._epoch_s + at_s if self._epoch_s else 0.0)
            # With its clock, to be executed with the same one again. Nobody waits until it is written: it is before anything
            # that the cell is answered, and a cell that was answered nothing may as well begin anew.
            self._recorder.emit(CellStarted, job.id, cell=cell)
        else:
            cell = replace(recorded.cell, prefetch=False)
            if recorded.result is not None:
                return await self._repeat(job, repl, recorded, recorded.result, limit)
        result, _ = await self._execute_safely(job, repl, cell, recorded, limit)
        return self._executed(job, cell, result)

    async def _repeat(
        self, job: NodeJob, repl: Repl, recorded: RecordedCell, before: CellResult, limit: str | None
    ) -> Executed:
        """A finished cell. The conversation goes on with what it gave then, byte for byte."""
        cell, told = replace(recorded.cell, prefetch=False), Executed(before, recorded.notice)
        if recorded.stale:  # the turn that was made again has written it, too
            told = self._executed(job, cell, before)
        if before.state_lost:
            await self._clean(repl, cell)
        if before.state_lost or before.rebuilt:  # it ended its process; what it had assigned was lost then as well
            await self._watched(job, repl, cell)
            return told
        run = CellRun(recorded)
        after = await repl.execute(cell, self._serve(job, cell, run, limit, repl), self._recorder.flush)
        if after.state_lost and await self._rebuild(job, repl, cell):  # not its own doing: then its record would say so
            after, run = await self._execute_safely(job, repl, cell, recorded, limit)
        if after.end == "interrupted":  # the run is told to stop while it is being taken up
            return told
        difference = find_difference(before, after)
        if difference is None and not (run.stopped or run.failed) and (left := run.unclaimed()):
            difference = f"it no longer made {len(left)} of its sub-calls"
        if difference is None:
            await self._watched(job, repl, cell)
            return told
        if self._repetition.strict:
            raise DivergenceError(job.id, cell.turn, cell.number, difference)
        return self._executed(job, cell, after, dropped=tuple(call.number for call in run.unclaimed()))

    async def _watched(self, job: NodeJob, repl: Repl, cell: Cell) -> None:
        if self._repetition.watch is not None:
            await self._repetition.watch(job.id, cell, repl)

    async def _clean(self, repl: Repl, cell: Cell) -> None:
        """Nothing of earlier cells is left after it."""
        await repl.execute(replace(cell, code=CLEAN_REPL), _refuse)

    async def _execute_safely(
        self, job: NodeJob, repl: Repl, cell: Cell, recorded: RecordedCell | None, limit: str | None
    ) -> tuple[CellResult, CellRun]:
        """A cell to its end, and the execution that came to it.

        Killed from outside it is tried again; when it ends its process, only its own work is lost.
        """
        tries_left = MAX_TRIES
        while True:
            tries_left -= 1
            run = CellRun(recorded)
            result = await repl.execute(cell, self._serve(job, cell, run, limit, repl), self._recorder.flush)
            if not result.state_lost or not await self._rebuild(job, repl, cell):
                return result, run
            if not (result.killed and tries_left):
                return replace(result, state_lost=False, rebuilt=True, notes=(*result.notes, REBUILT)), run
            recorded = self._repetition.history.cell(job.id, cell)

    async def _rebuild(self, job: NodeJob, repl: Repl, until: Cell) -> bool:
        """Executes the node's finished cells again in a new REPL. Where that does not give the same, it is empty, and False."""
        node = self._repetition.history.nodes.get(job.id)
        cells = sorted(node.cells.items()) if node else []
        finished = [recorded for key, recorded in cells if key < until.place and not recorded.stale]
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                for recorded in finished:
                    await self._redo(job, repl, recorded)
            except _Killed as killed:
                if not tries_left:
                    logger.warning("node %s: cell %s was killed again and again", job.id, killed)
            except DivergenceError as error:
                logger.warning(
                    "node %s: cell %s.%s cannot be repeated: %s", job.id, error.turn, error.cell, error.difference
                )
                break
            else:
                return True
        await self._clean(repl, until)
        return False

    async def _redo(self, job: NodeJob, repl: Repl, recorded: RecordedCell) -> None:
        """Raises DivergenceError when it did not give the same, and _Killed when something outside ended its process."""
        before, cell = recorded.result, replace(recorded.cell, prefetch=False)
        if before is None or before.rebuilt:
            return
        if before.state_lost:  # what came before was lost once, and is again
            await self._clean(repl, cell)
            return
        after = await repl.execute(cell, self._serve(job, cell, CellRun(recorded), None, repl))
        if after.killed:
            raise _Killed(cell.name)
        difference = "its process ended" if after.state_lost else find_difference(before, after)
        if difference is not None:
            raise DivergenceError(job.id, cell.turn, cell.number, difference)

    def _serve(self, job: NodeJob, cell: Cell, run: CellRun, limit: str | None, repl: Repl) -> ServeSubcall:
        return partial(self._subcalls.serve, CellExecution(job, cell, run, limit, repl.stop))

    def _executed(self, job: NodeJob, cell: Cell, result: CellResult, dropped: tuple[int, ...] = ()) -> Executed:
        notice = self._remaining.notice()
        self._recorder.emit(CellExecuted, job.id, cell=cell, result=result, notice=notice, dropped=dropped)
        return Executed(result, notice)


async def _refuse(_subcall: Subcall) -> SubcallOutcome:
    return SubcallFailure("Repeated", "this cell is not being executed")
