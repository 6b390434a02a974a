"""Runs probes at a level, beside a sibling REPL that must not be affected, and reports their verdicts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from rlm.core.cells import Cell, CellResult
from rlm.core.errors import SandboxError
from rlm.core.repl_spec import ReplLimits, ReplSpec
from rlm.core.subcalls import Subcall, SubcallAnswer, SubcallOutcome
from rlm.core.values import frozen
from rlm.sandbox.launchers.launcher import Launcher, WorkerProcess
from rlm.sandbox.probes.abuses import EXHAUSTION, HARMLESS, WIRE
from rlm.sandbox.probes.calls import numbers
from rlm.sandbox.probes.files import FILES
from rlm.sandbox.probes.kernel import KERNEL
from rlm.sandbox.probes.memory import MEMORY
from rlm.sandbox.probes.network import NETWORK
from rlm.sandbox.probes.probe import Probe, ProbeResult
from rlm.sandbox.probes.processes import PROCESSES
from rlm.sandbox.repl import WorkerRepl
from rlm.sandbox.sandbox import WorkerSandbox

ALL: tuple[Probe, ...] = (*FILES, *MEMORY, *NETWORK, *PROCESSES, *KERNEL, *EXHAUSTION, *WIRE, *HARMLESS)

UNSAFE_UNCONFINED = frozenset(
    {
        "abuse.fork bomb", "abuse.more copies than one at a time", "abuse.a copy of a copy",
        "abuse.kill everything", "processes.kill the sibling", "processes.kill the parent",
        "kernel.reboot", "kernel.set the clock", "kernel.set the time", "kernel.set the host name", "kernel.swap",
        "kernel.accounting", "kernel.load another kernel", "files.move the root", "files.mount a tmpfs",
        "files.delete the library", "files.change the library", "files.truncate a file", "files.rename a file",
        "files.change a mode", "files.put a module beside the library", "files.make a folder", "files.make a link",
        "files.link a file", "files.make a device", "files.leave by chroot", "files.set an attribute",
        "processes.move another to one processor", "memory.seize the host", "memory.trace the sibling",
        "processes.queue a signal", "memory.write the sibling by process_vm_writev",
    }
)  # fmt: skip
"""Probes that would do harm without confinement, so they do not run at the level "unconfined"."""

MEMORY_MB = 512
ALONGSIDE = 8  # probes at once
PRELUDE = """
import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

def call(name, *arguments):
    if name not in NUMBERS:
        raise NotImplementedError(name)
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result

def call_or_none(name, *arguments):
    try:
        return call(name, *arguments)
    except OSError:
        return None

def is_socket(fd):
    import stat
    return is_open(fd) and stat.S_ISSOCK(os.fstat(fd).st_mode)

def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
"""


@frozen
class _Targets:
    """Targets of the probes: real resources of this host, created for them."""

    setup_code: str
    secret: str


async def run_probes(launcher: Launcher, probes: Sequence[Probe] = ALL) -> list[ProbeResult]:
    """Runs probes, each in a new REPL of the launcher, and closes the launcher.

    Returns:
        One result for each probe, in order, and a last one for the sibling that ran beside them all.

    Raises:
        SandboxUnavailableError: no REPL can be started at all.
    """
    noting = _Noting(launcher)
    sandbox = WorkerSandbox(noting)
    try:
        sibling = await sandbox.open(ReplSpec("sibling", setup_code="kept = 'unharmed'"))
        assert noting.first is not None
        async with _targets(noting.first.pid) as targets:
            gate = asyncio.Semaphore(ALONGSIDE)

            async def run_one(probe: Probe) -> ProbeResult:
                if launcher.level == "unconfined" and probe.name in UNSAFE_UNCONFINED:
                    return ProbeResult(probe.name, "not run", "it would do harm, and nothing would stop it here")
                async with gate:
                    return await _attempt(sandbox, probe, targets)

            results = await asyncio.gather(*(run_one(probe) for probe in probes))
        return [*results, await _ask_sibling(sibling)]
    finally:
        await sandbox.aclose()


async def _attempt(sandbox: WorkerSandbox, probe: Probe, targets: _Targets) -> ProbeResult:
    limits = ReplLimits(cell_seconds=probe.seconds, memory_mb=MEMORY_MB)
    repl = await sandbox.open(ReplSpec("probe", setup_code=targets.setup_code, limits=limits))
    try:
        result = await repl.execute(Cell(1, 1, probe.code), _answer)
    except SandboxError as error:
        return ProbeResult(probe.name, "held", f"{type(error).__name__}: {error}")
    finally:
        await repl.aclose()
    return _judge(probe, result, targets.secret)


def _judge(probe: Probe, result: CellResult, secret: str) -> ProbeResult:
    if secret in result.stdout or secret in (result.echo or ""):
        return ProbeResult(probe.name, "reached", "it found the host's secret")
    if result.end in {"died", "timeout"}:
        return ProbeResult(probe.name, "held", result.error or result.end)
    if result.error is not None:
        absent = "NotImplementedError" in result.error
        return ProbeResult(probe.name, "not run" if absent else "held", result.error)
    if probe.protocol:
        return ProbeResult(probe.name, "held", "the host took no notice")
    if result.echo in {None, "False", "0", "[]", "''", "{}"}:
        return ProbeResult(probe.name, "held", "nothing there")
    if probe.harmless:
        return ProbeResult(probe.name, "harmless", probe.harmless)
    return ProbeResult(probe.name, "reached", (result.echo or "")[:200])


async def _ask_sibling(sibling: WorkerRepl) -> ProbeResult:
    name = "sibling.is unharmed"
    try:
        result = await sibling.execute(Cell(1, 1, "kept"), _answer)
    except SandboxError as error:
        return ProbeResult(name, "reached", f"the sibling is gone: {error}")
    if result.echo == "'unharmed'" and not result.state_lost:
        return ProbeResult(name, "held", "it answers and kept its state")
    return ProbeResult(name, "reached", f"the sibling was disturbed: {result.error or result.echo}")


@contextlib.asynccontextmanager
async def _targets(sibling_pid: int) -> AsyncIterator[_Targets]:
    """Creates a secret in a file and in the environment, a server and local sockets on this host."""
    half = os.urandom(8).hex()
    secret = f"{half}-tail"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        secret_file, socket_file = folder / "secret", folder / "socket"
        secret_file.write_text(secret)
        secret_file.chmod(0o644)
        folder.chmod(0o755)  # noqa: ASYNC240 - one call, before anything waits
        abstract = f"\0rlm-probe-{half}"
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for address in (str(socket_file), abstract):
            local = stack.enter_context(socket.socket(socket.AF_UNIX))
            local.bind(address)
            local.listen()
        os.environ["RLM_PROBE_SECRET"] = secret
        stack.callback(os.environ.pop, "RLM_PROBE_SECRET", None)
        values = {
            "NUMBERS": dict(numbers()),
            "SECRET_FILE": str(secret_file),
            "SECRET_HALF": half,
            "SOCKET_FILE": str(socket_file),
            "ABSTRACT": abstract,
            "PORT": server.getsockname()[1],
            "HOST_PID": os.getpid(),
            "HOST_FILE": __file__,
            "HOME": str(Path.home()),
            "SIBLING_PID": sibling_pid,
            "MEMORY_BYTES": MEMORY_MB * 1024 * 1024,
        }
        assignments = "\n".join(f"{name} = {value!r}" for name, value in values.items())
        yield _Targets(assignments + PRELUDE, secret)


async def _answer(subcall: Subcall) -> SubcallOutcome:
    return SubcallAnswer("x" * 100_000)


class _Noting:
    """A Launcher that remembers the process it started first."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self.first: WorkerProcess | None = None

    @property
    def level(self) -> str:
        return self._launcher.level

    async def launch(self, limits: ReplLimits, shared: int | None = None) -> WorkerProcess:
        process = await self._launcher.launch(limits, shared)
        self.first = self.first or process
        return process

    async def aclose(self) -> None:
        await self._launcher.aclose()
