"""The host's end of one zygote's control socket: requests REPLs and receives their ends.

The zygote forks hostile code but never runs it. Still, its messages count only if they name a REPL that was requested.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import socket
import subprocess

from rlm.core.errors import SandboxUnavailableError
from rlm.sandbox.launchers.unconfined import describe_status
from rlm.sandbox.launchers.zygote_process import (
    MAX_MESSAGE_BYTES,
    START_TIMEOUT_S,
    StartedZygote,
    check_readiness,
    end_process,
)
from rlm.sandbox.launchers.zygote_worker import ZygoteWorker

CPU_S = 4 * 3600  # of a REPL's whole life: a last bound, far above the limits of its cells
TASKS = 512  # threads of one REPL: more than parallel code needs, too few to burden the machine
EXIT_NOT_CONFINED = 71
SHARED_FD = 4  # number of the shared context's descriptor in every REPL of a zygote

RAISE_LIMIT = "Raise the limit of open files (`ulimit -n`): each REPL takes two."
END_POLL_S = 0.002  # a zygote ends within a few of these
END_TIMEOUT_S = 5.0  # time after which a zygote that does not end by itself, because it was stopped, is killed


class ZygoteDied(Exception):
    """The zygote is gone. Handled within this package."""


class ZygoteClient:
    """One zygote process, from its confinement to its end."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._next_id = 1
        self._asked: dict[int, tuple[socket.socket, int | None, asyncio.Future[ZygoteWorker]]] = {}
        self._workers: dict[int, ZygoteWorker] = {}
        self._gates: dict[int, int] = {}
        self.alive = True

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def meet(cls, started: StartedZygote, level: str) -> ZygoteClient:
        """Waits until a started zygote is ready. Raises SandboxUnavailableError."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                if not started.is_ready:
                    check_readiness(await _first_message(started.control), started, level)
        except BaseException as error:
            await asyncio.to_thread(started.end)
            if isinstance(error, TimeoutError):
                message = f"the zygote was not ready within {START_TIMEOUT_S:.0f} s"
                raise SandboxUnavailableError(message) from None
            raise
        zygote = cls(started.process, started.control)
        asyncio.get_running_loop().add_reader(started.control, zygote._read)
        return zygote

    async def spawn(self, memory_bytes: int, shared: int | None, *, forks: bool) -> ZygoteWorker:
        """Requests a REPL. With ``forks`` it can request forks of itself.

        Raises:
            ZygoteDied: the zygote is gone.
            SandboxUnavailableError: the zygote cannot fork.
        """
        if not self.alive:
            raise ZygoteDied
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:
            raise SandboxUnavailableError(f"no socket for a REPL: {error}. {RAISE_LIMIT}") from error
        ours.setblocking(False)
        number = self._next_id
        self._next_id += 1
        born: asyncio.Future[ZygoteWorker] = asyncio.get_running_loop().create_future()
        self._asked[number] = (ours, None if shared is None else SHARED_FD, born)
        order = {
            "do": "spawn",
            "id": number,
            "memory_bytes": memory_bytes,
            "cpu_s": CPU_S,
            "tasks": TASKS,
            "forks": forks,
        }
        try:
            with theirs:
                descriptors = [theirs.fileno()] if shared is None else [theirs.fileno(), shared]
                socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
        except OSError:
            self._lose()
        try:
            return await born
        except BaseException:  # also on cancellation: a process that starts later is killed at once (_on_spawned)
            ours.close()
            raise

    async def aclose(self) -> None:
        """Ends the zygote and waits until all its REPLs are gone, which the kernel ends with it. Safe to call twice."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            ended = select.poll()
            lingering = [worker.duplicate_pidfd() for worker in self._workers.values()]
            for pidfd in lingering:
                stack.callback(os.close, pidfd)
                ended.register(pidfd, select.POLLIN)
            self._lose()
            deadline = loop.time() + END_TIMEOUT_S
            # Polled without a thread, because none can be started while the interpreter shuts down.
            while self._process.poll() is None or len(ended.poll(0)) < len(lingering):
                if loop.time() > deadline:
                    self._process.kill()
                await asyncio.sleep(END_POLL_S)
        end_process(self._process)

    def _read(self) -> None:
        """Handles a message of the zygote, on the loop."""
        descriptors: list[int] = []
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE_BYTES, 4)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        message = json.loads(data)
        match message["is"]:
            case "spawned":
                self._on_spawned(message["id"], descriptors.pop() if descriptors else None)
            case "gated" if descriptors:
                self._on_gated(message["id"], descriptors.pop())
            case "unborn":
                *_, born = self._asked.pop(message["id"])
                if not born.done():
                    born.set_exception(SandboxUnavailableError(f"no process for a REPL: {message['why']}"))
            case "ended":
                worker = self._workers.pop(message["id"], None)
                if worker is not None:
                    worker.end(_describe_end(message["status"]))
        for descriptor in descriptors:
            os.close(descriptor)

    def _on_spawned(self, number: int, pidfd: int | None) -> None:
        ours, shared_fd, born = self._asked.pop(number)
        try:
            if pidfd is None:
                raise OSError(
                    errno.EMFILE, os.strerror(errno.EMFILE)
                )  # the kernel dropped descriptors that did not fit
            worker = ZygoteWorker(ours, pidfd, shared_fd)
        except OSError as error:
            ours.close()  # at which the process ends
            if pidfd is not None:
                os.close(pidfd)
            if not born.done():
                born.set_exception(SandboxUnavailableError(f"no descriptor for a REPL: {error}. {RAISE_LIMIT}"))
            return
        self._workers[number] = worker
        if (gate := self._gates.pop(number, None)) is not None:
            worker.guard_forks(gate)
        if born.done():  # cancelled meanwhile
            worker.kill()
        else:
            born.set_result(worker)

    def _on_gated(self, number: int, gate: int) -> None:
        """Installs the gate that a REPL sent before any cell. It can precede the zygote's message, or follow the REPL's end."""
        if (worker := self._workers.get(number)) is not None:
            worker.guard_forks(gate)
        elif number in self._asked:
            self._gates[number] = gate
        else:
            os.close(gate)

    def _lose(self) -> None:
        """Marks the zygote as gone, together with all its REPLs, which the kernel ends with it."""
        if not self.alive:
            return
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()  # this orders the zygote to end
        for *_, born in self._asked.values():
            if not born.done():
                born.set_exception(ZygoteDied())
        self._asked.clear()
        for gate in self._gates.values():
            os.close(gate)
        self._gates.clear()
        for worker in self._workers.values():
            worker.kill()
            worker.end("killed by signal 9 (SIGKILL), because its zygote ended")
        self._workers.clear()


async def _first_message(control: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(control, MAX_MESSAGE_BYTES)
    except ConnectionResetError:  # it was killed before it had read our order
        return b""


def _describe_end(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code == EXIT_NOT_CONFINED:
        return "could not confine itself, so it ran nothing; try `rlm doctor`"
    return describe_status(code)
