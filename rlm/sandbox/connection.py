"""One worker process with its transport."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from rlm.core.errors import ProtocolViolationError, SandboxDiedError
from rlm.sandbox.launchers.launcher import WorkerProcess
from rlm.sandbox.messages import SessionEvent
from rlm.sandbox.transport import WorkerGone, WorkerTransport

EXIT_DRAIN_S = 0.2  # between a process's end and the end of what it had sent
KILLED = "signal 9"  # of a process that we did not kill: what a cell does to itself ends otherwise
E = TypeVar("E", bound=SessionEvent)


class WorkerKilled(SandboxDiedError):
    """By something outside, as far as can be told."""


class WorkerConnection:
    """One live process with its link."""

    def __init__(self, process: WorkerProcess, link: WorkerTransport) -> None:
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
        kind = WorkerKilled if KILLED in how else SandboxDiedError
        return kind(f"a worker process ended {when}: {how}")

    async def end(self) -> str:
        """Kills the process if need be; returns how it ended."""
        self.process.kill()
        how = await asyncio.shield(self._exit)
        await self.link.aclose()
        return how
