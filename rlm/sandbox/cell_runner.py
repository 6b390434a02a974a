"""Runs one cell: serves its sub-calls, collects its output, measures its time and stops it step by step.

At the time limit the runner cancels open sub-calls and sends SIGINT to the process. It repeats the signal every
``INTERRUPT_S`` seconds, three times in all, and then sends SIGKILL. One SIGINT is not enough, because Python drops an
exception that is raised in a finalizer or a weakref callback. A busy event loop runs many of those.

The runner must not know how processes start, nor how a REPL recovers from the end of its process.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import field
from time import perf_counter, thread_time
from typing import assert_never

from rlm.core.cells import Cell
from rlm.core.repl_spec import ReplLimits
from rlm.core.subcalls import ModelQuery, Subcall, SubcallFailure, SubcallOutcome
from rlm.core.values import slotted
from rlm.ports import Flush, ServeSubcall
from rlm.sandbox.launchers.launcher import WorkerProcess
from rlm.sandbox.loop_share import LoopShare
from rlm.sandbox.memory.host_bytes import COPIES
from rlm.sandbox.messages import Called, Done, Printed, Ready, SessionEvent, Value, Withdrew
from rlm.sandbox.transport import WorkerTransport

INTERRUPTS = 3
DECODING_POLL_S = 0.01
REFUSED_SHARE, REFUSED_BURST_S = 0.05, 0.15  # loop time for sub-calls refused at once; a thousand at full speed
REFUSED_FACTOR = 3  # the cost of a refused sub-call, with its decoding and its answer, as a multiple of its first step
INTERRUPT_S = 0.5  # a cell that can be interrupted at all ends within milliseconds
MAX_WAIT_FACTOR = 100  # bound on waits, as a multiple of ``cell_seconds``; see Stopwatch


@slotted
class Stopwatch:
    """Measures the time that a cell has used.

    A cell waits while the host works on at least one of its sub-calls; claims of the worker do not count. Sub-calls that are
    refused or answered at once do not count either. So a hostile cell gains time only by paid calls, each with a deadline and a
    share of the run's budget. That gain is capped at MAX_WAIT_FACTOR times the cell's own limit, so that every cell ends.
    """

    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    waiting_since: float | None = None

    def set_waiting(self, waiting: bool) -> None:
        if waiting and self.waiting_since is None:
            self.waiting_since = time.monotonic()
        elif not waiting and self.waiting_since is not None:
            self.waited += time.monotonic() - self.waiting_since
            self.waiting_since = None

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def waited_now(self) -> float:
        return self.waited + (0.0 if self.waiting_since is None else time.monotonic() - self.waiting_since)

    def remaining(self, limit: float) -> float:
        return limit - self.elapsed() + min(self.waited_now(), limit * MAX_WAIT_FACTOR)


@slotted
class QueryCount:
    """Counts the model queries of a cell and their failures. A prefetched one counts only if the cell reached it."""

    ended: int = 0
    failures: list[SubcallFailure] = field(default_factory=list)
    prefetched: list[int] = field(default_factory=list)
    failed_prefetches: dict[int, SubcallFailure] = field(default_factory=dict)

    def add(self, subcall: Subcall, outcome: SubcallOutcome) -> None:
        if not isinstance(subcall, ModelQuery):
            return
        if subcall.prefetched:
            self.prefetched.append(subcall.number)
            if isinstance(outcome, SubcallFailure):
                self.failed_prefetches[subcall.number] = outcome
            return
        self.ended += 1
        if isinstance(outcome, SubcallFailure):
            self.failures.append(outcome)

    def total(self, prefetches_used: int) -> tuple[int, list[SubcallFailure]]:
        """The number of ended queries, and the failures among them. Prefetched queries are reached in their order."""
        used = sorted(self.prefetched)[:prefetches_used]
        reached = [self.failed_prefetches[number] for number in used if number in self.failed_prefetches]
        return self.ended + len(used), [*reached, *self.failures]


class CellRunner:
    """Runs one cell over a transport, as its listener. Each instance runs one cell only."""

    def __init__(
        self,
        transport: WorkerTransport,
        process: WorkerProcess,
        limits: ReplLimits,
        serve: ServeSubcall,
        flush: Flush | None = None,
    ) -> None:
        self._account = transport.account
        self._charges: dict[int, int] = {}  # bytes charged for open sub-calls
        self._transport = transport
        self._process = process
        self._limits = limits
        self._serve = serve
        self._flush = flush
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._interrupt_s = INTERRUPT_S
        self._unstarted: set[int] = set()  # tasks before their first step, at which a sub-call is refused if at all
        self._answers: list[tuple[int, SubcallOutcome]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._printed: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._group: asyncio.TaskGroup
        self._ended: asyncio.Future[Done | BaseException] = asyncio.get_running_loop().create_future()
        self._refusals = LoopShare(REFUSED_SHARE, REFUSED_BURST_S)
        self._ending = False
        self.watch = Stopwatch()
        self.queries = QueryCount()
        self.timed_out = False
        self.stopped = False

    async def run(self, cell: Cell, name: str | None = None) -> Done:
        """Runs the cell to its end, as the worker reports it.

        Raises:
            WorkerGone: the process ended first.
            ProtocolViolationError: the worker broke the protocol.
            BaseException: any error raised by ``serve``.
        """
        self._transport.listen(self)
        self._transport.send(self._transport.session.start(cell, name))
        self._check_time()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    end = await self._ended
                finally:
                    self._cancel_calls()
        finally:
            for number in list(self._charges):
                self._refund(number)
            self._transport.listen(None)
            self.watch.set_waiting(False)
            if self._timer is not None:
                self._timer.cancel()
        if isinstance(end, BaseException):  # raised here because the task group would wrap it
            raise end
        return end

    def printed(self, stream: str) -> str:
        return "".join(self._printed[stream])

    def on_event(self, event: SessionEvent) -> None:
        """Handles an event of the worker; called by the transport."""
        if self._ended.done():
            return
        match event:
            case Printed(stream, text):
                self._printed[stream].append(text)
            case Called(subcalls, _):
                if not self._ending:
                    self._charge(event)
                    for subcall in subcalls:
                        self._unstarted.add(subcall.number)
                        self._tasks[subcall.number] = self._group.create_task(self._serve_one(subcall))
                    asyncio.get_running_loop().call_soon(self._note_served, thread_time(), len(self.queries.failures))
            case Withdrew(numbers):
                for number in numbers:
                    self._unstarted.discard(number)
                    self._refund(number)
                    if (task := self._tasks.pop(number, None)) is not None:
                        task.cancel()
                self._note_waiting()
            case Done():
                self._ended.set_result(event)
            case Ready() | Value():
                raise RuntimeError(f"unexpected event {event!r} while a cell ran")
            case _:
                assert_never(event)

    def _charge(self, called: Called) -> None:
        """Charges the host's memory for sub-calls to the run. Their REPL is not read while the run has no room for more."""
        if not called.size:
            return
        share = called.size * COPIES // len(called.subcalls)
        self._account.charge(share * len(called.subcalls))
        self._charges.update((subcall.number, share) for subcall in called.subcalls)
        if self._account.is_full:
            self._transport.hold("memory")
            self._account.wait_for_room(self._on_room)

    def _on_room(self) -> None:
        if self._charges and self._account.is_full:
            self._account.wait_for_room(self._on_room)
        else:
            self._transport.release("memory")

    def _refund(self, number: int) -> None:
        size = self._charges.pop(number, 0)
        if size:
            self._account.refund(size)
            if not self._charges:  # other REPLs of the run can wait for this one
                self._transport.release("memory")

    def on_failure(self, error: BaseException) -> None:
        """Ends the cell with an error of the transport: the worker is gone, or broke the protocol."""
        self._give_up(error)

    async def _serve_one(self, subcall: Subcall) -> None:
        """Serves one sub-call. An exception of ``serve`` is an error of the run, so it ends the cell."""
        number = subcall.number
        self._unstarted.discard(number)
        try:
            outcome = await self._serve(subcall)
        except asyncio.CancelledError as error:
            if not self._ending and number in self._tasks:  # not withdrawn and not stopped: ``serve`` was cancelled
                self._give_up(error)
            raise
        except BaseException as error:  # noqa: BLE001  raised again where the cell is awaited
            self._give_up(error)
            return
        finally:
            self._refund(number)
        if self._tasks.pop(number, None) is None or self._ending:
            return
        self.queries.add(subcall, outcome)
        self._answers.append((number, outcome))
        if not self._tasks:
            self._send_answers()
        elif len(self._answers) == 1:  # answers of one iteration of the event loop share a frame
            asyncio.get_running_loop().call_soon(self._send_answers)

    def _give_up(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_result(error)

    def _send_answers(self) -> None:
        answers, self._answers = self._answers, []
        if answers and not self._ending:
            try:
                if self._flush is not None:
                    self._flush()
            except Exception as error:  # noqa: BLE001  raised again where the cell is awaited
                self._give_up(error)
                return
            self._transport.send(self._transport.session.answer(answers))
            self._note_waiting()

    def _note_waiting(self) -> None:
        self.watch.set_waiting(len(self._tasks) > len(self._unstarted) and not self._ended.done())

    def _note_served(self, started_s: float, failures: int) -> None:
        """Follows the first steps of a message's sub-calls. Refusals cost no budget, so they get a share of the loop."""
        self._note_waiting()
        if self._tasks or len(self.queries.failures) == failures:
            return
        pause_s = self._refusals.spend(REFUSED_FACTOR * (thread_time() - started_s), perf_counter())
        if pause_s:
            self._transport.hold("refusals")
            asyncio.get_running_loop().call_later(pause_s, self._transport.release, "refusals")

    def _cancel_calls(self) -> None:
        self._ending = True
        for task in self._tasks.values():
            task.cancel()

    def _check_time(self) -> None:
        """Checks the time limit, and schedules the next check for the earliest time at which it can be reached."""
        remaining = self.watch.remaining(self._limits.cell_seconds)
        loop = asyncio.get_running_loop()
        if remaining > 0 or self._transport.decoding_last:  # the worker can have ended the cell already
            self._timer = loop.call_later(max(DECODING_POLL_S, remaining + 0.001), self._check_time)
            return
        self.timed_out = True
        self._interrupt()

    def stop(self, patience_s: float | None = None) -> None:
        """Stops the cell now, with the same steps as at the time limit, ``patience_s`` apart."""
        if not (self.stopped or self.timed_out or self._ending):
            self.stopped = True
            self._interrupt_s = INTERRUPT_S if patience_s is None else patience_s
            self._interrupt()

    def _interrupt(self) -> None:
        self._cancel_calls()
        if self._timer is not None:
            self._timer.cancel()
        self._stop(INTERRUPTS)

    def _stop(self, interrupts: int) -> None:
        if self._transport.decoding_last:
            self._timer = asyncio.get_running_loop().call_later(DECODING_POLL_S, self._stop, interrupts)
            return
        if not interrupts:
            self._process.kill()
            return
        self._process.interrupt()
        self._timer = asyncio.get_running_loop().call_later(self._interrupt_s, self._stop, interrupts - 1)
