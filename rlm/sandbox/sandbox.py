"""The ports ``Sandbox`` and ``Repl`` over worker processes: any launcher, one protocol.

A REPL outlives its process: when the process dies in a cell, another takes its place with the same context and setup code,
and the result says that the state is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from rlm.core.cells import Answer, Cell, CellEnd, CellResult, PlainValue
from rlm.core.errors import (
    ConfigurationError,
    ContextError,
    ProtocolViolationError,
    SandboxDiedError,
    SandboxError,
    SandboxUnavailableError,
)
from rlm.core.repl_spec import ReplSpec, ReplVariables
from rlm.core.subcalls import Subcall, SubcallFailure, SubcallOutcome
from rlm.ports import Keep, ServeSubcall
from rlm.sandbox.cell_runner import RunningCell
from rlm.sandbox.launchers.launcher import Launcher, WorkerProcess
from rlm.sandbox.memory.admission import Admission
from rlm.sandbox.memory.eviction import MemoryWatch
from rlm.sandbox.memory.meter import Memory, MemoryMeter, own_memory_mb
from rlm.sandbox.protocol import Done, Ready, Session, SessionEvent, SharedMemoryContext, Value
from rlm.sandbox.shared_memory import ContextPool, SharedContext
from rlm.sandbox.transport import Link, WorkerGone
from rlm.sandbox.worker.wire.values import NotPlain

READY_TIMEOUT_S = 60.0  # a new worker needs milliseconds; a gigabyte of context on a busy machine needs seconds
ASK_TIMEOUT_S = 30.0  # reading a variable may run its __str__
SETUP_S = 60.0  # at least: a busy machine must not fail the caller's own code by the limit of a model's cells
EXIT_DRAIN_S = 0.2  # between a process's end and the end of what it had sent
MAX_TRIES = 3  # to start a process that something outside kills
SETUP = Cell(1, 1, "")
KILLED = "signal 9"  # of a process that we did not kill: what a cell does to itself ends otherwise
# Where forks can be counted and end with their REPL, and no copy can touch anything.
FORKING_LEVELS = frozenset({"strict"})
E = TypeVar("E", bound=SessionEvent)


class _Killed(SandboxDiedError):
    """By something outside, as far as can be told."""


class _Worker:
    """One live process with its link."""

    def __init__(self, process: WorkerProcess, link: Link) -> None:
        self.process = process
        self.link = link
        self._exit = asyncio.create_task(self._watch_exit())

    async def _watch_exit(self) -> str:
        """A process that ended may have left its socket to a child of its own: then no end of file will come."""
        how = await self.process.wait()
        asyncio.get_running_loop().call_later(EXIT_DRAIN_S, self.link.fail, WorkerGone())
        return how

    async def expect(self, kind: type[E], timeout_s: float) -> E:
        """Raises SandboxDiedError when something else comes, or nothing."""
        try:
            async with asyncio.timeout(timeout_s):
                event = await self.link.next_event()
        except TimeoutError as error:
            await self.end()
            why = f"did not answer within {timeout_s:g} s"
            raise SandboxDiedError(f"a worker process ended before it answered: {why}") from error
        except WorkerGone:
            raise await self.died("before it answered") from None
        if not isinstance(event, kind):
            raise ProtocolViolationError(f"a worker sent {type(event).__name__} instead of {kind.__name__}")
        return event

    async def died(self, when: str) -> SandboxDiedError:
        """What to raise of a process that is gone."""
        how = await self.end()
        kind = _Killed if KILLED in how else SandboxDiedError
        return kind(f"a worker process ended {when}: {how}")

    async def end(self) -> str:
        """Kills the process if need be; returns how it ended."""
        self.process.kill()
        how = await asyncio.shield(self._exit)
        await self.link.aclose()
        return how


class WorkerRepl:
    """Implements Repl. Made by ``WorkerSandbox.open``."""

    def __init__(
        self,
        launcher: Launcher,
        spec: ReplSpec,
        on_close: Callable[[WorkerRepl], None],
        watch: MemoryWatch,
        shared: SharedContext | None = None,
    ) -> None:
        self._launcher = launcher
        self._shared = shared
        self._spec = spec
        self._on_close = on_close
        self._watch = watch
        self._starved_mb = 0
        self._worker: _Worker | None = None
        self._running: RunningCell | None = None
        self._busy = False
        self._closed = False

    async def start(self) -> None:
        """Starts a process and gives it context and setup code. One that is killed meanwhile costs another try, not an error."""
        for _ in range(MAX_TRIES - 1):
            try:
                return await self._start_once()
            except _Killed:
                if self._closed or self.starving or self._watch.system_was_first():
                    raise  # by us after all, or for the memory that another would take again
        return await self._start_once()

    async def _start_once(self) -> None:
        limits = self._spec.limits
        if self._launcher.level not in FORKING_LEVELS:
            limits = replace(limits, prefetch_ahead=0)
        shared = self._shared
        process = await self._launcher.launch(limits, None if shared is None else shared.fileno())
        context: PlainValue | SharedMemoryContext = self._spec.context
        if shared is not None:
            assert process.shared_fd is not None
            context = SharedMemoryContext(shared.header, process.shared_fd)
        session = Session(limits)
        worker = self._worker = _Worker(process, await Link.connect(process.sock, session))
        try:
            await worker.link.send_large(session.open(context, self._spec.can_call, self._spec.seed))
        except NotPlain as error:
            raise ContextError(
                f"the context cannot enter the sandbox: {error}. Pass text, or lists and dicts of plain data."
            ) from None
        except WorkerGone:
            raise await worker.died("at its start") from None
        await worker.expect(Ready, READY_TIMEOUT_S)
        if self._spec.setup_code is not None:
            await self._run_setup(worker, self._spec.setup_code)

    async def _run_setup(self, worker: _Worker, code: str) -> None:
        limits = self._spec.limits
        limits = replace(limits, cell_seconds=max(limits.cell_seconds, SETUP_S))
        running = RunningCell(worker.link, worker.process, limits, _refuse)
        try:
            done = await running.run(Cell(1, 1, code), "setup")
        except WorkerGone:
            died = await worker.died("in its setup code")
            if isinstance(died, _Killed) and not running.timed_out:
                raise died from None
            raise ConfigurationError(str(died)) from None
        if done.end != "ok":
            raise ConfigurationError(f"the setup code failed: {done.traceback or done.error}")

    async def execute(self, cell: Cell, serve: ServeSubcall, keep: Keep | None = None) -> CellResult:
        """See ``rlm.ports.Repl.execute``."""
        worker = self._claim()
        try:
            running = self._running = RunningCell(worker.link, worker.process, self._spec.limits, serve, keep)
            try:
                with self._watch.over_cell():
                    done = await running.run(cell)
            except WorkerGone:
                how = await worker.end()
                return await self._replace(running, how)
            return self._result(running, done)
        except BaseException:  # also cancellation: what the process would do next is nobody's cell
            await asyncio.shield(self.aclose())
            raise
        finally:
            self._running = None
            self._busy = False

    def stop(self) -> None:
        """See ``rlm.ports.Repl.stop``."""
        if self._running is not None:
            self._running.stop()

    def memory_mb(self) -> int:
        """See ``pressure.Holder``."""
        return 0 if self._worker is None else own_memory_mb(self._worker.process.pid)

    @property
    def starving(self) -> bool:
        """See ``pressure.Holder``."""
        return self._starved_mb > 0

    def starve(self, held_mb: int) -> None:
        """See ``pressure.Holder``. What was lost is told where the next cell ends, or the one that runs."""
        if self._worker is not None:
            self._starved_mb = held_mb
            self._worker.process.kill()

    async def read(self, name: str) -> PlainValue:
        """See ``rlm.ports.Repl.read``."""
        told = await self._ask(name)
        if told.value is None:
            raise KeyError(name)
        return told.value[0]

    async def variables(self) -> ReplVariables:
        """See ``rlm.ports.Repl.variables``."""
        told = await self._ask(None)
        found = told.value[0] if told.value is not None else None
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            await self.aclose()
            raise ProtocolViolationError("a worker sent something else than its variables")
        return found

    async def aclose(self) -> None:
        """See ``rlm.ports.Repl.aclose``."""
        self._closed = True
        worker = self._worker
        if worker is not None:
            await worker.end()
            self._worker = None
        self._on_close(self)

    def _claim(self) -> _Worker:
        if self._closed or self._worker is None:
            raise SandboxDiedError("this REPL is closed; open a new one")
        if self._busy:
            raise RuntimeError("this REPL is busy: it executes one cell at a time")
        self._busy = True
        return self._worker

    async def _ask(self, name: str | None) -> Value:
        worker = self._claim()
        try:
            worker.link.send(worker.link.session.ask(name))
            return await worker.expect(Value, ASK_TIMEOUT_S)
        except BaseException:
            await asyncio.shield(self.aclose())
            raise
        finally:
            self._busy = False

    async def _replace(self, running: RunningCell, how: str) -> CellResult:
        """A new process after the old one ended in a cell."""
        if self._closed:
            raise SandboxDiedError("the REPL was closed while a cell ran")
        elapsed = running.watch.elapsed()
        try:
            await self.start()
        except (SandboxError, ConfigurationError) as error:
            raise SandboxDiedError(f"a REPL's process ended ({how}) and could not be replaced: {error}") from error
        shortage = self._shortage(how)
        end, what, why = _why_ended(running, how, f"{self._spec.limits.cell_seconds:g} s", shortage)
        return CellResult(
            end=end,
            stdout=running.printed("stdout"),
            stderr=running.printed("stderr"),
            error=what,
            notes=(why,),
            state_lost=True,
            killed=end == "died" and not shortage and KILLED in how,
            elapsed_s=elapsed,
            waited_s=running.watch.waited,
        )

    def _shortage(self, how: str) -> str:
        """Where it was for want of memory that the process was killed: what there is to say about that."""
        starved_mb, self._starved_mb = self._starved_mb, 0
        if starved_mb:
            return f"the machine ran out of memory, and of all REPLs this one held most ({starved_mb} MiB)"
        if KILLED in how and self._watch.system_was_first():
            return "the machine ran out of memory"
        return ""

    def _result(self, running: RunningCell, done: Done) -> CellResult:
        end: CellEnd = done.end
        error, notes = done.error, done.notes
        if running.timed_out and done.answer is None:
            limit = f"{self._spec.limits.cell_seconds:g} s"
            end, error = "timeout", f"TimeoutError: the cell ran longer than {limit}"
            notes = (
                *notes,
                f"The cell was stopped after {limit} (waits for sub-calls not counted). Variables are kept.",
            )
        elif end == "interrupted" and running.stopped:
            error = None
        elif end == "interrupted":  # by the code itself: else the host sends SIGINT at the time limit only
            end = "error"
        texts = [
            _join(running.printed(stream), omitted, tail)
            for stream, omitted, tail in zip(("stdout", "stderr"), done.omitted, done.tails, strict=True)
        ]
        return CellResult(
            end=end,
            stdout=texts[0],
            stderr=texts[1],
            echo=done.echo,
            error=error,
            traceback=done.traceback,
            answer=None if done.answer is None else Answer(done.answer[0]),
            variables=done.variables,
            notes=notes,
            elapsed_s=running.watch.elapsed(),
            waited_s=running.watch.waited,
            prefetched=done.prefetched,
            prefetches_used=done.prefetches_used,
        )


class WorkerSandbox:
    """Implements Sandbox with the processes of a launcher, which it owns.

    ``read_memory`` tells what is left of the machine's memory, and None where that is unknown.
    """

    def __init__(self, launcher: Launcher, read_memory: Callable[[], Memory | None] | None = None) -> None:
        self._launcher = launcher
        self._repls: set[WorkerRepl] = set()
        self._contexts = ContextPool()
        read_memory = read_memory or MemoryMeter().read
        self._admission = Admission(read_memory)
        self._watch = MemoryWatch(self._repls, read_memory)
        self._closed = False

    @property
    def level(self) -> str:
        return self._launcher.level

    async def open(self, spec: ReplSpec) -> WorkerRepl:
        """See ``rlm.ports.Sandbox.open``.

        Raises:
            ConfigurationError: when the setup code fails.
        """
        if self._closed:
            raise SandboxUnavailableError("this sandbox is closed; make a new one")
        await self._admission.enter()
        shared = await self._contexts.share(spec.context)
        repl = WorkerRepl(self._launcher, spec, self._repls.discard, self._watch, shared)
        self._repls.add(repl)
        try:
            await repl.start()
        except BaseException as error:
            await asyncio.shield(repl.aclose())
            if isinstance(error, SandboxDiedError):
                raise SandboxUnavailableError(str(error)) from error
            raise
        return repl

    async def aclose(self) -> None:
        """See ``rlm.ports.Sandbox.aclose``."""
        self._closed = True
        await asyncio.gather(*(repl.aclose() for repl in list(self._repls)))
        await self._launcher.aclose()


def _why_ended(running: RunningCell, how: str, limit: str, shortage: str) -> tuple[CellEnd, str, str]:
    """How a cell whose process is gone ended, its error, and a sentence for the model."""
    if running.timed_out:
        why = f"The cell ran longer than {limit} and could not be interrupted, so its process was killed."
        return "timeout", f"TimeoutError: the cell ran longer than {limit}", why
    if running.stopped:
        why = "The cell was stopped and could not be interrupted, so its process was killed."
        return "interrupted", f"the process {how}", why
    if shortage:
        return "died", f"MemoryError: {shortage}", f"The process was killed: {shortage}. Keep less in variables."
    return "died", f"the process {how}", f"The REPL's process ended in this cell: it {how}."


async def _refuse(_subcall: Subcall) -> SubcallOutcome:
    return SubcallFailure("SetupCode", "setup code cannot make sub-calls")


def _join(head: str, omitted: int, tail: str) -> str:
    return f"{head}\n... [{omitted:,} characters left out] ...\n{tail}" if omitted else head + tail
