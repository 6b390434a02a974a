"""Executes the cells of nodes: new cells, recorded cells again, and all cells of a node whose REPL was lost.

A cell can be executed again because the record provides the answers to its sub-calls in their order, the time of day and random
numbers. If its output still differs, that is a DivergenceError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from rlm.core.actions import Executed
from rlm.core.cells import Cell, CellResult
from rlm.core.divergence import find_difference
from rlm.core.errors import DivergenceError, SandboxDiedError
from rlm.core.events import CellExecuted, CellStarted
from rlm.core.history import RecordedCall, RecordedCell
from rlm.core.ids import CallId, SubcallPlace
from rlm.core.subcalls import Subcall, SubcallFailure, SubcallOutcome
from rlm.core.superseding import SupersededWork
from rlm.engine.driver.queries import CellExecution
from rlm.engine.driver.subcalls import SubcallServer
from rlm.engine.recorder import Recorder
from rlm.engine.replay.ordering import RecordedAnswers
from rlm.engine.replay.policy import ReplayPolicy
from rlm.engine.replay.superseding import Superseding
from rlm.engine.settings import NodeJob
from rlm.engine.spending.limits import Remaining
from rlm.log import get_logger
from rlm.ports import Repl, ServeSubcall

logger = get_logger(__name__)

REBUILT = (
    "The variables of earlier cells were restored by running those cells again. The variables of this cell were lost."
)
MAX_TRIES = 3  # executions of a cell whose process is killed from outside
# The sandbox replaces a process that ended, so this code leaves an empty REPL.
CLEAN_REPL = "import os\nos._exit(1)"


class _Killed(Exception):
    """The process of a cell was killed from outside while the cell was executed again."""


class CellDriver:
    """Executes the cells of one run.

    ``epoch_s`` is the time of day at the start of the recorder's time; 0 leaves cells the real clock.
    """

    def __init__(  # noqa: PLR0917  the parts of a run
        self,
        subcalls: SubcallServer,
        recorder: Recorder,
        policy: ReplayPolicy,
        superseding: Superseding,
        remaining: Remaining,
        epoch_s: float,
        earlier: Sequence[RecordedCell] = (),
    ) -> None:
        """``earlier`` are the root's cells of earlier questions of a session."""
        self._subcalls = subcalls
        self._remaining = remaining
        self._recorder = recorder
        self._policy = policy
        self._superseding = superseding
        self._epoch_s = epoch_s
        self._earlier = tuple(earlier)

    async def restore(self, job: NodeJob, repl: Repl) -> None:
        """Executes the cells of earlier questions of a session again, in a new REPL of the root.

        Raises:
            DivergenceError: a cell gave another output than before.
            SandboxDiedError: its process was killed several times.
        """
        for tries_left in reversed(range(MAX_TRIES)):
            try:
                for recorded in self._earlier:
                    await self._redo(job, repl, recorded)
            except _Killed as killed:
                if not tries_left:
                    raise SandboxDiedError(f"cell {killed} was killed {MAX_TRIES} times; ask again") from None
            else:
                return

    async def execute(self, job: NodeJob, repl: Repl, cell: Cell, limit: str | None) -> Executed:
        """Executes a new cell, or a recorded one again. ``limit`` names a limit that forbids its sub-calls."""
        recorded = self._policy.history.cell(job.id, cell)
        if recorded is None:
            self._superseding.start_cell(job.id, cell)
            at_s = self._recorder.at_s
            cell = replace(cell, clock_s=self._epoch_s + at_s if self._epoch_s else 0.0)
            # The event holds the cell's clock, for later executions. It is not flushed here: it is in the journal before any
            # answer to the cell, and a cell without answers can just as well start again.
            self._recorder.emit(CellStarted, job.id, cell=cell)
        else:
            cell = replace(recorded.cell, prefetch=False)
            if recorded.result is not None:
                return await self._repeat(job, repl, recorded, recorded.result, limit)
        result, answers = await self._execute_safely(job, repl, cell, recorded, limit)
        # The cell was cut short before, and no longer makes these calls: nothing is left undone by their refusal.
        self._drop(job, cell, answers.unclaimed_refusals())
        return self._executed(job, cell, result)

    async def _repeat(
        self, job: NodeJob, repl: Repl, recorded: RecordedCell, before: CellResult, limit: str | None
    ) -> Executed:
        """Executes a finished cell again. The conversation goes on with its recorded output, byte for byte."""
        cell, executed = replace(recorded.cell, prefetch=False), Executed(before, recorded.notice)
        if recorded.unconfirmed:  # the turn was asked again, and has written this cell again
            executed = self._executed(job, cell, before)
        if before.state_lost:
            await self._clean(repl, cell)
        if before.state_lost or before.rebuilt:  # it ended its process, and its variables were lost then too
            await self._watched(job, repl, cell)
            return executed
        answers = RecordedAnswers(recorded)
        after = await repl.execute(cell, self._serve(job, cell, answers, limit, repl), self._recorder.flush)
        # Killed from outside: the record says so if its own code did it.
        if after.state_lost and await self._rebuild(job, repl, cell):
            after, answers = await self._execute_safely(job, repl, cell, recorded, limit)
        if after.end == "interrupted":  # the resumed run is being stopped
            return executed
        difference = find_difference(before, after)
        if difference is None and not (answers.stopped or answers.failed) and (left := answers.unclaimed()):
            difference = f"it no longer made {len(left)} of its sub-calls"
        if difference is None:
            await self._watched(job, repl, cell)
            return executed
        if self._policy.strict:
            raise DivergenceError(job.id, cell.turn, cell.number, difference)
        self._drop(job, cell, answers.unclaimed())
        return self._executed(job, cell, after)

    def _drop(self, job: NodeJob, cell: Cell, calls: Sequence[RecordedCall]) -> None:
        """Supersedes sub-calls that a cell no longer made."""
        paths = (SubcallPlace(job.id, *cell.place, call.number).path for call in calls)
        self._superseding.drop_subcalls(SupersededWork(job.id, calls=tuple(map(CallId, paths))))

    async def _watched(self, job: NodeJob, repl: Repl, cell: Cell) -> None:
        if self._policy.watch is not None:
            await self._policy.watch(job.id, cell, repl)

    async def _clean(self, repl: Repl, cell: Cell) -> None:
        """Empties the REPL."""
        await repl.execute(replace(cell, code=CLEAN_REPL), _refuse)

    async def _execute_safely(
        self, job: NodeJob, repl: Repl, cell: Cell, recorded: RecordedCell | None, limit: str | None
    ) -> tuple[CellResult, RecordedAnswers]:
        """Executes a cell to its end. Returns its result with the recorded answers that it used.

        If its process is killed from outside, the cell is tried again. If it ends its process itself, only its own work is lost.
        """
        tries_left = MAX_TRIES
        while True:
            tries_left -= 1
            answers = RecordedAnswers(recorded)
            result = await repl.execute(cell, self._serve(job, cell, answers, limit, repl), self._recorder.flush)
            if not result.state_lost or not await self._rebuild(job, repl, cell):
                return result, answers
            if not (result.killed and tries_left):
                return replace(result, state_lost=False, rebuilt=True, notes=(*result.notes, REBUILT)), answers
            recorded = self._policy.history.cell(job.id, cell)

    async def _rebuild(self, job: NodeJob, repl: Repl, until: Cell) -> bool:
        """Executes the node's finished cells again in a new REPL. False, and an empty REPL, if their output differs."""
        node = self._policy.history.nodes.get(job.id)
        cells = sorted(node.cells.items()) if node else []
        finished = [recorded for key, recorded in cells if key < until.place and not recorded.unconfirmed]
        if job.parent is None:
            finished = [*self._earlier, *finished]
        results = [recorded.result for recorded in finished if recorded.result is not None]
        in_time = self._remaining.allows(sum(result.elapsed_s - result.waited_s for result in results))
        for tries_left in reversed(range(MAX_TRIES if in_time else 0)):
            try:
                for recorded in finished:
                    await self._redo(job, repl, recorded)
            except _Killed as killed:
                if not tries_left:
                    logger.warning("node %s: cell %s was killed %d times", job.id, killed, MAX_TRIES)
            except DivergenceError as error:
                logger.warning(
                    "node %s: cell %s.%s diverged when it was executed again: %s",
                    job.id,
                    error.turn,
                    error.cell,
                    error.difference,
                )
                break
            else:
                return True
        await self._clean(repl, until)
        return False

    async def _redo(self, job: NodeJob, repl: Repl, recorded: RecordedCell) -> None:
        """Executes a finished cell again. Raises DivergenceError if its output differs, _Killed if its process was killed."""
        before, cell = recorded.result, replace(recorded.cell, prefetch=False)
        if before is None or before.rebuilt:
            return
        if before.state_lost:  # the variables of earlier cells were lost here, and are lost again
            await self._clean(repl, cell)
            return
        after = await repl.execute(cell, self._serve(job, cell, RecordedAnswers(recorded), None, repl))
        if after.killed:
            raise _Killed(cell.name)
        difference = "its process ended" if after.state_lost else find_difference(before, after)
        if difference is not None:
            raise DivergenceError(job.id, cell.turn, cell.number, difference)

    def _serve(self, job: NodeJob, cell: Cell, answers: RecordedAnswers, limit: str | None, repl: Repl) -> ServeSubcall:
        return partial(self._subcalls.serve, CellExecution(job, cell, answers, limit, repl.stop))

    def _executed(self, job: NodeJob, cell: Cell, result: CellResult) -> Executed:
        self._subcalls.end_cell(job.id, cell)
        notice = self._remaining.notice()
        self._recorder.emit(CellExecuted, job.id, cell=cell, result=result, notice=notice)
        return Executed(result, notice)


async def _refuse(_subcall: Subcall) -> SubcallOutcome:
    return SubcallFailure("Repeated", "this cell is not being executed")
