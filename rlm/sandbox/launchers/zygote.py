"""Launches REPLs through a zygote, which is started on demand and restarted if it dies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from rlm.core.errors import ConfigurationError, SandboxError, SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits
from rlm.sandbox.launchers.zygote_client import ZygoteClient, ZygoteDied
from rlm.sandbox.launchers.zygote_process import EARLY, ENTRY, StartedZygote, ZygoteEndedError, start_process
from rlm.sandbox.launchers.zygote_worker import ZygoteWorker

SPAWN_TIMEOUT_S = 30.0
MAX_SPAWNING = 32  # that many orders and their sockets always fit the control socket's buffer


class ZygoteLauncher:
    """Implements Launcher. The zygote starts with ``prepare``, otherwise with the first launch, and restarts if it dies.

    Args:
        level: "strict", "landlock" or "seccomp"; see ``levels`` for those that this machine offers.
        packages: packages that cells can import beside the standard library; imported before confinement.
        entry: the function that a REPL runs, as ``module:function`` within the package ``worker``. The functions ``warm_up``
            and ``prefault`` of that module, if it has them, run once in the zygote and once in each pre-forked process.
    """

    def __init__(self, level: str, *, packages: Sequence[str] = (), entry: str = ENTRY) -> None:
        self._level = level
        self._packages = tuple(packages)
        self._entry = entry
        self._zygote: ZygoteClient | None = None
        self._prepared: StartedZygote | None = None
        self._starting = asyncio.Lock()
        self._spawning = asyncio.Semaphore(MAX_SPAWNING)
        self._closed = False

    @property
    def level(self) -> str:
        return self._level

    @property
    def zygote_pid(self) -> int | None:
        """The zygote's process id; None before it is prepared or first used."""
        if self._zygote is None and self._prepared is not None:
            return self._prepared.process.pid
        return self._zygote.pid if self._zygote else None

    def prepare(self) -> StartedZygote | None:
        """Starts the zygote in advance, in parallel with whatever precedes the first launch. That launch reports a failure.

        Returns:
            The process, still owned by this launcher; the reader of its first message marks it as ready. None if it failed.
        """
        with contextlib.suppress(ConfigurationError, SandboxUnavailableError):
            early = EARLY.take(self._level, self._packages, self._entry)
            self._prepared = early or start_process(self._level, self._packages, self._entry)
        return self._prepared

    def discard(self) -> None:
        """Ends a prepared zygote that was not used."""
        started, self._prepared = self._prepared, None
        if started is not None:
            started.end()

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> ZygoteWorker:
        """Starts a confined process that is ready for its first message.

        Raises:
            SandboxUnavailableError: the zygote cannot be started or cannot fork; gives the reason.
        """
        died: ZygoteDied | ZygoteEndedError = ZygoteDied()
        for _ in range(2):  # a zygote that died unnoticed, or while it started, costs one more attempt, never an error
            try:
                zygote = await self._living_zygote()
                async with self._spawning, asyncio.timeout(SPAWN_TIMEOUT_S):
                    forks = limits.prefetch_ahead > 0
                    return await zygote.spawn(limits.memory_mb * 1024 * 1024, shared, forks=forks)
            except (ZygoteDied, ZygoteEndedError) as error:
                died = error
            except TimeoutError:
                raise SandboxUnavailableError(f"the zygote started no process within {SPAWN_TIMEOUT_S:.0f} s") from None
        if isinstance(died, ZygoteEndedError):
            raise died
        raise SandboxUnavailableError("the zygote died twice while it started a process; see the kernel's log")

    async def aclose(self) -> None:
        """Ends the zygote, and with it every process that it forked."""
        self._closed = True
        self.discard()
        async with self._starting:
            if self._zygote is not None:
                await self._zygote.aclose()
                self._zygote = None

    async def _living_zygote(self) -> ZygoteClient:
        async with self._starting:
            if self._closed:
                raise SandboxError("this launcher is closed; open a new one")
            if self._zygote is not None and not self._zygote.alive:
                await self._zygote.aclose()
                self._zygote = None
            if self._zygote is None:
                if self._prepared is not None and self._prepared.process.poll() is not None:
                    self.discard()  # it ended unused
                started, self._prepared = self._prepared, None
                started = started or start_process(self._level, self._packages, self._entry)
                self._zygote = await ZygoteClient.meet(started, self._level)
            return self._zygote
