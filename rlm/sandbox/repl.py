"""The port ``Repl`` over worker processes.

A REPL outlives its process. If the process dies in a cell, another one replaces it with the same context and setup code.
The cell's result then reports the lost state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from rlm.core.cells import Cell, CellResult, PlainValue
from rlm.core.errors import (
    ConfigurationError,
    ContextError,
    ProtocolViolationError,
    SandboxDiedError,
    SandboxError,
)
from rlm.core.repl_spec import ReplSpec, ReplVariables
from rlm.core.subcalls import Subcall, SubcallFailure, SubcallOutcome
from rlm.ports import Flush, ServeSubcall
from rlm.sandbox.cell_runner import CellRunner
from rlm.sandbox.connection import KILLED, WorkerConnection, WorkerKilled
from rlm.sandbox.host_resources import HostResources
from rlm.sandbox.launchers.launcher import Launcher
from rlm.sandbox.memory.meter import own_memory_mb
from rlm.sandbox.messages import Ready, SharedMemoryContext, Value
from rlm.sandbox.protocol import Session
from rlm.sandbox.results import died_result, finished_result
from rlm.sandbox.shared_memory import SharedContext
from rlm.sandbox.text_files import FileContext
from rlm.sandbox.transport import WorkerGone, WorkerTransport
from rlm.sandbox.worker.wire.values import NotPlain

READY_TIMEOUT_S = 60.0  # a new worker needs milliseconds; a gigabyte of context on a busy machine needs seconds
ASK_TIMEOUT_S = 30.0  # reading a variable can run its __str__
SETUP_S = 60.0  # at least: setup code is the caller's own, and must not fail on a busy machine
IDLE_S = 0.05  # cells of one turn follow each other faster
MAX_TRIES = 3  # attempts to start a process that is killed from outside
# Levels at which forks are counted, end with their REPL, and can touch nothing outside.
FORKING_LEVELS = frozenset({"strict"})


class WorkerRepl:
    """Implements Repl. Created by ``WorkerSandbox.open``."""

    def __init__(
        self,
        launcher: Launcher,
        spec: ReplSpec,
        on_close: Callable[[WorkerRepl], None],
        host: HostResources,
        shared: SharedContext | None = None,
    ) -> None:
        self._host = host
        self._account = host.memory.account(spec.run)
        self._launcher = launcher
        self._shared = shared
        self._spec = spec
        self._counted = 0  # blocks of a large file whose counts this process has
        self._on_close = on_close
        self._evicted_mb = 0
        self._worker: WorkerConnection | None = None
        self._runner: CellRunner | None = None
        self._busy = False
        self._idle: asyncio.TimerHandle | None = None
        self._paused = False
        self._closed = False

    async def start(self) -> None:
        """Starts a process and gives it context and setup code. Retries if it is killed from outside."""
        for _ in range(MAX_TRIES - 1):
            try:
                return await self._start_once()
            except WorkerKilled:
                if self._closed or self.being_evicted or self._host.watch.kernel_killed_first():
                    raise  # killed by this host, or for memory that another process would use again
        return await self._start_once()

    async def _start_once(self) -> None:
        limits = self._spec.limits
        if self._launcher.level not in FORKING_LEVELS:
            limits = replace(limits, prefetch_ahead=0)
        shared = self._shared
        if shared is not None:
            shared.check()
        self._counted = 0
        process = await self._launcher.launch(limits, None if shared is None else shared.fileno())
        context: PlainValue | SharedMemoryContext = self._spec.context
        if shared is not None:
            assert process.shared_fd is not None
            context = SharedMemoryContext(shared.header, process.shared_fd)
        session = Session(limits)
        worker = self._worker = WorkerConnection(
            process, await WorkerTransport.connect(process.sock, session, self._host.queue, self._account)
        )
        spec = self._spec
        try:
            opening = session.open(
                context, spec.can_call, spec.seed, spec.side_table, spec.tools, is_typed=spec.is_typed
            )
            await worker.transport.send_large(opening)
        except NotPlain as error:
            raise ContextError(
                f"the context cannot enter the sandbox: {error}. Pass text, or lists and dicts of plain data."
            ) from None
        except WorkerGone:
            raise await worker.died("at its start") from None
        await worker.expect(Ready, READY_TIMEOUT_S)
        if self._spec.setup_code is not None:
            await self._run_setup(worker, self._spec.setup_code)

    async def _run_setup(self, worker: WorkerConnection, code: str) -> None:
        limits = self._spec.limits
        limits = replace(limits, cell_seconds=max(limits.cell_seconds, SETUP_S))
        runner = CellRunner(worker.transport, worker.process, limits, _refuse)
        try:
            done = await runner.run(Cell(1, 1, code), "setup")
        except WorkerGone:
            died = await worker.died("in its setup code")
            if isinstance(died, WorkerKilled) and not runner.timed_out:
                raise died from None
            raise ConfigurationError(str(died)) from None
        if done.end != "ok":
            raise ConfigurationError(f"the setup code failed: {done.traceback or done.error}")

    async def execute(self, cell: Cell, serve: ServeSubcall, flush: Flush | None = None) -> CellResult:
        """See ``rlm.ports.Repl.execute``."""
        worker = self._claim()
        try:
            runner = self._runner = CellRunner(worker.transport, worker.process, self._spec.limits, serve, flush)
            self._send_counts(worker)
            try:
                with self._host.watch.during_cell():
                    done = await runner.run(cell)
            except WorkerGone:
                how = await worker.end()
                return await self._replace(runner, how)
            if self._shared is not None:
                self._shared.check()
            return finished_result(runner, done, self._limit_text)
        except BaseException:  # including cancellation: the process still runs a cell that no caller waits for
            await self.aclose()
            raise
        finally:
            self._runner = None
            self._release()

    def _send_counts(self, worker: WorkerConnection) -> None:
        """Sends what the host has counted of a large file meanwhile."""
        blocks = self._shared.blocks if isinstance(self._shared, FileContext) else None
        if blocks is not None and blocks.counted > self._counted:
            counts = blocks.counts(self._counted)
            worker.transport.send(worker.transport.session.counts(self._counted, counts))
            self._counted += len(counts) // 16

    def stop(self, patience_s: float | None = None) -> None:
        """See ``rlm.ports.Repl.stop``."""
        if self._runner is not None:
            self._runner.stop(patience_s)

    def memory_mb(self) -> int:
        """See ``rlm.sandbox.memory.eviction.Evictable``."""
        return 0 if self._worker is None else own_memory_mb(self._worker.process.pid, self._context_bytes)

    @property
    def _context_bytes(self) -> int:
        return 0 if self._shared is None else self._shared.memory_bytes

    @property
    def being_evicted(self) -> bool:
        """See ``rlm.sandbox.memory.eviction.Evictable``."""
        return self._evicted_mb > 0

    def evict(self, held_mb: int) -> None:
        """See ``rlm.sandbox.memory.eviction.Evictable``. The result of the present or next cell reports the lost state."""
        if self._worker is not None:
            self._evicted_mb = held_mb
            self._worker.process.kill()

    async def read(self, name: str) -> PlainValue:
        """See ``rlm.ports.Repl.read``."""
        reply = await self._ask(name)
        if reply.value is None:
            raise KeyError(name)
        return reply.value[0]

    async def variables(self) -> ReplVariables:
        """See ``rlm.ports.Repl.variables``."""
        reply = await self._ask(None)
        variables = reply.value[0] if reply.value is not None else None
        if not isinstance(variables, dict) or not all(isinstance(name, str) for name in variables):
            await self.aclose()
            raise ProtocolViolationError("malformed variables from worker")
        return variables

    async def aclose(self) -> None:
        """See ``rlm.ports.Repl.aclose``. Cancelling the caller does not interrupt it."""
        await asyncio.shield(self._close())

    async def _close(self) -> None:
        self._closed = True
        if self._idle is not None:
            self._idle.cancel()
        worker = self._worker
        if worker is not None:
            await worker.end()
            self._worker = None
        self._on_close(self)

    def _claim(self) -> WorkerConnection:
        if self._closed or self._worker is None:
            raise SandboxDiedError("this REPL is closed; open a new one")
        if self._busy:
            raise RuntimeError("this REPL is busy: it executes one cell at a time")
        self._busy = True
        if self._idle is not None:
            self._idle.cancel()
        if self._paused:
            self._paused = False
            self._worker.process.resume()
        return self._worker

    def _release(self) -> None:
        """Ends a request. Soon after, the process is paused until the next one, with all threads that code left behind."""
        self._busy = False
        if not self._closed:
            self._idle = asyncio.get_running_loop().call_later(IDLE_S, self._pause)

    def _pause(self) -> None:
        if not (self._closed or self._busy or self._worker is None):
            self._paused = True
            self._worker.process.pause()

    async def _ask(self, name: str | None) -> Value:
        worker = self._claim()
        try:
            worker.transport.send(worker.transport.session.ask(name))
            return await worker.expect(Value, ASK_TIMEOUT_S)
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._release()

    async def _replace(self, runner: CellRunner, how: str) -> CellResult:
        """Replaces the process after it ended in a cell."""
        if self._closed:
            raise SandboxDiedError("the REPL was closed while a cell ran")
        elapsed_s = runner.watch.elapsed()
        try:
            await self.start()
        except (SandboxError, ConfigurationError) as error:
            raise SandboxDiedError(f"a REPL's process ended ({how}) and could not be replaced: {error}") from error
        return died_result(runner, how, self._limit_text, self._shortage(how), elapsed_s)

    @property
    def _limit_text(self) -> str:
        return f"{self._spec.limits.cell_seconds:g} s"

    def _shortage(self, how: str) -> str:
        """The reason if the process was killed for lack of memory; empty otherwise."""
        evicted_mb, self._evicted_mb = self._evicted_mb, 0
        if evicted_mb:
            return f"the machine ran out of memory, and this REPL used the most ({evicted_mb} MiB)"
        if KILLED in how and self._host.watch.kernel_killed_first():
            return "the machine ran out of memory"
        return ""


async def _refuse(_subcall: Subcall) -> SubcallOutcome:
    return SubcallFailure("SetupCode", "setup code cannot make sub-calls")
