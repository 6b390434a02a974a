"""The host's end of a zygote: starts it, asks it for REPLs, learns of their ends, replaces it when it dies.

The zygote forks hostile code but never runs it, and what it tells is still only believed as far as it names a REPL that was
asked for. What a REPL does on its own socket is no business of this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rlm.core.errors import ConfigurationError, SandboxError, SandboxUnavailableError
from rlm.core.repl_spec import ReplLimits
from rlm.sandbox.launchers.fork_gate import ForkGate
from rlm.sandbox.launchers.unconfined import describe_status
from rlm.sandbox.launchers.zygote_process import (
    MAX_MESSAGE_BYTES,
    START_TIMEOUT_S,
    Started,
    ZygoteEndedError,
    check_readiness,
    end_process,
    start_process,
)

SPAWN_TIMEOUT_S = 30.0
MAX_SPAWNING = 32  # so many orders and their sockets always fit the control socket's buffer
CPU_S = 4 * 3600  # of a REPL's whole life: a last bound, far above what limits on cells allow
TASKS = 512  # threads of one REPL: more than code needs that asks in parallel, too few to trouble the machine
EXIT_NOT_CONFINED = 71
SHARED_FD = 4  # under which every REPL of a zygote finds its shared context

RAISE_LIMIT = "Raise the limit of open files (`ulimit -n`): each REPL takes two."
END_POLL_S = 0.002  # a zygote is gone within a few of these
END_TIMEOUT_S = 5.0  # after which one that does not end by itself, because it was stopped, is killed


class ZygoteDied(Exception):
    """The zygote is gone. Handled within this package."""


class ZygoteWorker:
    """Implements WorkerProcess: a REPL that a zygote forked. Signals go through its pidfd, so they never hit another."""

    def __init__(self, sock: socket.socket, pidfd: int, shared_fd: int | None) -> None:
        self.shared_fd = shared_fd
        self._sock = sock
        self._pidfd = pidfd
        self._pid = _pid_behind(pidfd)
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._gate: ForkGate | None = None

    @property
    def sock(self) -> socket.socket:
        return self._sock

    @property
    def pid(self) -> int:
        return self._pid

    def interrupt(self) -> None:
        self._send(signal.SIGINT)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    async def wait(self) -> str:
        return await asyncio.shield(self._ended)

    def _send(self, number: signal.Signals) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def guard_forks(self, gate: int) -> None:
        """Set by the zygote's reader, where the REPL may ask for forks."""
        self._gate = ForkGate(gate, self._pid)

    def duplicate_pidfd(self) -> int:
        """For who waits until the process is gone, whatever is told of it."""
        return os.dup(self._pidfd)

    def end(self, how: str) -> None:
        """Set by the zygote's reader, once."""
        if self._gate is not None:
            self._gate.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if not self._ended.done():
            self._ended.set_result(how)


class ZygoteLauncher:
    """Implements Launcher. The zygote is started with ``prepare``, else with the first launch, and again when it was lost.

    Args:
        level: "strict", "landlock" or "seccomp"; find out before what this machine offers (``levels``).
        packages: importable in cells beside the standard library; imported before confinement.
        entry: what a REPL runs, ``module:function`` within the package ``worker``; the module's functions
            ``rehearse`` and ``settle``, where it has them, are called once before all, and in each process forked ahead.
    """

    def __init__(self, level: str, *, packages: Sequence[str] = (), entry: str = "worker.boot.warmup:serve") -> None:
        self._level = level
        self._packages = tuple(packages)
        self._entry = entry
        self._zygote: _Zygote | None = None
        self._prepared: Started | None = None
        self._starting = asyncio.Lock()
        self._spawning = asyncio.Semaphore(MAX_SPAWNING)
        self._closed = False

    @property
    def level(self) -> str:
        return self._level

    @property
    def zygote_pid(self) -> int | None:
        """The process to look at in ``ps``; None before it is prepared, or the first launch."""
        if self._zygote is None and self._prepared is not None:
            return self._prepared.process.pid
        return self._zygote.pid if self._zygote else None

    def prepare(self) -> Started | None:
        """Starts the zygote, which takes its time beside whatever comes before the first launch. That tells what went wrong.

        Returns:
            what was started, still this launcher's; whoever hears that it is ready marks that. None where it went wrong.
        """
        with contextlib.suppress(ConfigurationError, SandboxUnavailableError):
            self._prepared = start_process(self._level, self._packages, self._entry)
        return self._prepared

    def discard(self) -> None:
        """Ends what was prepared and not used."""
        started, self._prepared = self._prepared, None
        if started is not None:
            started.end()

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> ZygoteWorker:
        """A confined process, ready for its first message.

        Raises:
            SandboxUnavailableError: when the zygote cannot be started or cannot fork; says why.
        """
        died: ZygoteDied | ZygoteEndedError = ZygoteDied()
        for _ in range(2):  # a zygote that died unnoticed, or while it started, costs one more try, never an error
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
        """Ends the zygote and with it every process that it forked."""
        self._closed = True
        self.discard()
        async with self._starting:
            if self._zygote is not None:
                await self._zygote.aclose()
                self._zygote = None

    async def _living_zygote(self) -> _Zygote:
        async with self._starting:
            if self._closed:
                raise SandboxError("this launcher was closed; make a new one")
            if self._zygote is not None and not self._zygote.alive:
                await self._zygote.aclose()
                self._zygote = None
            if self._zygote is None:
                if self._prepared is not None and self._prepared.process.poll() is not None:
                    self.discard()  # it ended unused
                started, self._prepared = self._prepared, None
                started = started or start_process(self._level, self._packages, self._entry)
                self._zygote = await _Zygote.meet(started, self._level)
            return self._zygote


class _Zygote:
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
    async def meet(cls, started: Started, level: str) -> _Zygote:
        """Waits until a process is ready that was started as a zygote. Raises SandboxUnavailableError."""
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
        """``forks``: the REPL may ask for copies of itself. Raises ZygoteDied, or SandboxUnavailableError when it cannot fork."""
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
        except BaseException:  # also when nobody waits any more: what is born then, is ended at once (_on_spawned)
            ours.close()
            raise

    async def aclose(self) -> None:
        """Safe to call twice. The kernel ends the REPLs with the zygote; when this returns, all are gone."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            ended = select.poll()
            lingering = [worker.duplicate_pidfd() for worker in self._workers.values()]
            for pidfd in lingering:
                stack.callback(os.close, pidfd)
                ended.register(pidfd, select.POLLIN)
            self._lose()
            deadline = loop.time() + END_TIMEOUT_S
            # No thread waits: the end of the interpreter, which this may be, allows no new ones.
            while self._process.poll() is None or len(ended.poll(0)) < len(lingering):
                if loop.time() > deadline:
                    self._process.kill()
                await asyncio.sleep(END_POLL_S)
        end_process(self._process)

    def _read(self) -> None:
        """Takes what the zygote has sent; runs on the loop."""
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
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))  # the kernel dropped what did not fit
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
        """From the REPL before any cell; it may overtake the zygote's own message, or come after the REPL's end."""
        if (worker := self._workers.get(number)) is not None:
            worker.guard_forks(gate)
        elif number in self._asked:
            self._gates[number] = gate
        else:
            os.close(gate)

    def _lose(self) -> None:
        """The zygote is gone, or is to go: so are all its REPLs, by the kernel's means."""
        if not self.alive:
            return
        self.alive = False
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()  # which is the zygote's order to end
        for *_, born in self._asked.values():
            if not born.done():
                born.set_exception(ZygoteDied())
        self._asked.clear()
        for gate in self._gates.values():
            os.close(gate)
        self._gates.clear()
        for worker in self._workers.values():
            worker.kill()
            worker.end("killed by signal 9 (SIGKILL), because the zygote that had forked it ended")
        self._workers.clear()


async def _first_message(control: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(control, MAX_MESSAGE_BYTES)
    except ConnectionResetError:  # it was killed with our order unread
        return b""


def _pid_behind(pidfd: int) -> int:
    """A pidfd's process id in our own numbering, -1 when it has ended."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii").splitlines():
        if line.startswith("Pid:"):
            return int(line.split()[1])
    return -1


def _describe_end(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code == EXIT_NOT_CONFINED:
        return "could not confine itself, so it ran nothing; try `rlm doctor`"
    return describe_status(code)
