"""One worker process together with its transport."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from rlm.core.errors import ProtocolViolationError, SandboxDiedError
from rlm.sandbox.launchers.launcher import WorkerProcess
from rlm.sandbox.messages import SessionEvent
from rlm.sandbox.transport import WorkerGone, WorkerTransport

EXIT_DRAIN_S = 0.2  # time for output that the process sent before it ended
KILLED = "signal 9"  # from outside, as by the kernel's OOM killer; a cell's own actions end its process in other ways
E = TypeVar("E", bound=SessionEvent)


class WorkerKilled(SandboxDiedError):
    """The process was killed from outside."""


class WorkerConnection:
    """One live worker process and its transport."""

    def __init__(self, process: WorkerProcess, transport: WorkerTransport) -> None:
        self.process = process
        self.transport = transport
        self._exit = asyncio.create_task(self._watch_exit())

    async def _watch_exit(self) -> str:
        """Waits for the end of the process, then closes the transport.

        The end of file is not enough: a child of the process can have inherited its socket, and keeps it open.
        """
        how = await self.process.wait()
        asyncio.get_running_loop().call_later(EXIT_DRAIN_S, self.transport.fail, WorkerGone())
        return how

    async def expect(self, kind: type[E], timeout_s: float) -> E:
        """Waits for the next event, which must be of the given kind.

        Raises:
            SandboxDiedError: the process ended, or sent nothing in time.
            ProtocolViolationError: another event arrived.
        """
        try:
            async with asyncio.timeout(timeout_s):
                event = await self.transport.next_event()
        except TimeoutError as error:
            await self.end()
            why = f"did not answer within {timeout_s:g} s"
            raise SandboxDiedError(f"a worker process was ended: {why}") from error
        except WorkerGone:
            raise await self.died("before it answered") from None
        if not isinstance(event, kind):
            raise ProtocolViolationError(f"a worker sent {type(event).__name__} instead of {kind.__name__}")
        return event

    async def died(self, when: str) -> SandboxDiedError:
        """Ends the process; returns the exception to raise for it."""
        how = await self.end()
        kind = WorkerKilled if KILLED in how else SandboxDiedError
        return kind(f"a worker process ended {when}: {how}")

    async def end(self) -> str:
        """Kills the process if it still runs; returns how it ended."""
        self.process.kill()
        how = await asyncio.shield(self._exit)
        await self.transport.aclose()
        return how
