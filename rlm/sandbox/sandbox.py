"""The port ``Sandbox`` over the worker processes of a launcher."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from rlm.core.errors import SandboxDiedError, SandboxUnavailableError
from rlm.core.repl_spec import ReplSpec
from rlm.sandbox.context_pool import ContextPool
from rlm.sandbox.host_resources import HostResources
from rlm.sandbox.launchers.launcher import Launcher
from rlm.sandbox.loop_share import StepQueue
from rlm.sandbox.memory.admission import Admission
from rlm.sandbox.memory.eviction import MemoryWatch
from rlm.sandbox.memory.host_bytes import HostBytes, choose_limit
from rlm.sandbox.memory.meter import Memory, MemoryMeter
from rlm.sandbox.repl import WorkerRepl

MAX_STARTING = 32
"""REPLs that start at the same time. More of them would share the processors, and all be ready late."""


class WorkerSandbox:
    """Implements Sandbox with the processes of a launcher, which it owns.

    ``read_memory`` returns the machine's free memory, or None if it is unknown.
    """

    def __init__(self, launcher: Launcher, read_memory: Callable[[], Memory | None] | None = None) -> None:
        self._launcher = launcher
        self._repls: set[WorkerRepl] = set()
        self._contexts = ContextPool()
        read_memory = read_memory or MemoryMeter().read
        self._admission = Admission(read_memory)
        self._host = HostResources(
            MemoryWatch(self._repls, read_memory), StepQueue(), HostBytes(choose_limit(read_memory()))
        )
        self._starting = asyncio.Semaphore(MAX_STARTING)
        self._admitted: set[WorkerRepl] = set()
        self._closed = False

    @property
    def level(self) -> str:
        return self._launcher.level

    async def open(self, spec: ReplSpec) -> WorkerRepl:
        """See ``rlm.ports.Sandbox.open``.

        Raises:
            ConfigurationError: the setup code failed.
        """
        if self._closed:
            raise SandboxUnavailableError("this sandbox is closed; open a new one")
        await self._admission.wait_for_room(spec.depth, spec.on_queued)
        try:
            async with self._starting:
                repl = await self._open(spec)
        except BaseException:
            self._admission.closed()
            raise
        finally:
            self._admission.started()
        self._admitted.add(repl)
        return repl

    async def _open(self, spec: ReplSpec) -> WorkerRepl:
        shared = await self._contexts.share(spec.context)
        repl = WorkerRepl(self._launcher, spec, self._forget, self._host, shared)
        self._repls.add(repl)
        try:
            await repl.start()
        except BaseException as error:
            await repl.aclose()
            if isinstance(error, SandboxDiedError):
                raise SandboxUnavailableError(str(error)) from error
            raise
        return repl

    def _forget(self, repl: WorkerRepl) -> None:
        self._repls.discard(repl)
        if repl in self._admitted:
            self._admitted.discard(repl)
            self._admission.closed()

    async def aclose(self) -> None:
        """See ``rlm.ports.Sandbox.aclose``."""
        self._closed = True
        await asyncio.gather(*(repl.aclose() for repl in list(self._repls)))
        await self._launcher.aclose()
