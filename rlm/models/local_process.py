"""Processes of llama.cpp: one for each model file, shared by its users, ended with its last user or the host.

Everything here blocks and is thread-safe. ``local`` calls it from threads, because models are shared between event loops. The
host holds the write end of each child's stdin. When the host ends, even by ``kill -9``, the kernel closes it and the child exits.
PR_SET_PDEATHSIG would not work: it fires when the *thread* that started the child ends.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from secrets import token_urlsafe

from rlm.core.errors import ConfigurationError, MissingExtraError, ProviderUnreachableError
from rlm.core.values import frozen

INSTALL_LINE = "pip install 'rlm-arbor[local]'"
LOAD_TIMEOUT_S = 300.0  # tens of gigabytes from a slow disk
STOP_TIMEOUT_S = 5.0
_SCRIPT = Path(__file__).with_name("local_server.py")


@frozen
class ServerOrder:
    """Configuration of a server. Equal orders share a server.

    ``window_tokens`` and ``reply_tokens`` are limits of each slot. ``cache_mb`` bounds the memory for cached prefixes.
    """

    path: str
    name: str
    window_tokens: int
    reply_tokens: int
    slots: int
    threads: int
    cache_mb: int = 512


class LocalServer:
    """One running child process."""

    def __init__(self, order: ServerOrder) -> None:
        """Starts the process and waits until it serves.

        Raises:
            ConfigurationError: llama.cpp cannot load the file.
            MissingExtraError: llama.cpp is not installed.
        """
        self.order = order
        self.key = token_urlsafe(24)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (lives as long as the process that writes to it)
        self._process = subprocess.Popen(  # noqa: S603
            # -P: the folder of the script is a package, its files must not hide modules of the standard library.
            [sys.executable, "-P", str(_SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(os.environ),
            start_new_session=True,  # Ctrl-C is handled by the host, which can still need replies
        )
        try:
            self.url = self._begin()
        except BaseException:
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Kills the process, which has no state to lose. Safe to call twice."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._log.close()

    def _begin(self) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps({**asdict(self.order), "key": self.key}).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            pass  # it ended before it read; its log has the reason
        deadline = time.monotonic() + LOAD_TIMEOUT_S
        poll = select.poll()  # select() knows only the first 1,024 descriptors
        poll.register(stdout, select.POLLIN)
        if not poll.poll(1000 * max(0.0, deadline - time.monotonic())):
            raise ConfigurationError(
                f"{self.order.path} was not loaded within {LOAD_TIMEOUT_S:g} s. Use a smaller model"
            )
        line = stdout.readline()
        answer = json.loads(line) if line else {"error": "llama.cpp ended while it loaded the file"}
        if "missing" in answer:
            raise MissingExtraError(f"the model local:{self.order.name}", INSTALL_LINE)
        if "error" in answer:
            raise ConfigurationError(
                f"llama.cpp cannot load {self.order.path}: {answer['error']} {self._quote_log()}"
                "Check that it is a complete GGUF file of a text model, and that it fits into memory"
            )
        return str(answer["url"])

    def _quote_log(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"Its log: {' | '.join(line.strip() for line in lines[-3:])[:600]}. " if lines else ""


def _environment(host: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: without keys, and with threads that sleep while they wait for each other.

    OpenMP's threads spin by default. With one busy neighbour on two cores, two spinning threads were slower than one (270
    against 405 characters a second), and sleeping ones faster (450). Without a neighbour, sleeping costs a tenth.
    """
    passed = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "LANG", "TMPDIR", "CUDA_VISIBLE_DEVICES")
    return {name: host[name] for name in passed if name in host} | {"OMP_WAIT_POLICY": "PASSIVE"}


class ServerPool:
    """The servers of this process, with reference counts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._starting: dict[ServerOrder, threading.Lock] = {}
        self._servers: dict[ServerOrder, LocalServer] = {}
        self._users: dict[ServerOrder, int] = {}

    def enter(self, order: ServerOrder) -> None:
        """Adds a user of a server."""
        with self._lock:
            self._users[order] = self._users.get(order, 0) + 1

    def leave(self, order: ServerOrder) -> None:
        """Removes a user; the last one ends the server."""
        with self._lock:
            self._users[order] -= 1
            server = None if self._users[order] else self._servers.pop(order, None)
        if server is not None:
            server.stop()

    def get(self, order: ServerOrder) -> LocalServer:
        """The running server of an order. It is started if there is none, or if it has died.

        Raises:
            ConfigurationError, MissingExtraError: it cannot be started.
            ProviderUnreachableError: its last user left while it started.
        """
        with self._lock:
            starting = self._starting.setdefault(order, threading.Lock())
        with starting:  # loading takes seconds: users of other models must not wait for it
            with self._lock:
                server = self._servers.get(order)
            if server is not None and server.alive:
                return server
            if server is not None:
                server.stop()
            started = LocalServer(order)
            with self._lock:
                wanted = self._users.get(order, 0) > 0
                if wanted:
                    self._servers[order] = started
            if wanted:
                return started
            started.stop()
            raise ProviderUnreachableError(f"local:{order.name} was closed while it started", model=order.name)

    def running(self) -> list[LocalServer]:
        """All servers that run."""
        with self._lock:
            return [server for server in self._servers.values() if server.alive]

    def stop_all(self) -> None:
        """Ends every server. Called at exit, so that no zombie process is left."""
        with self._lock:
            servers = list(self._servers.values())
            self._servers.clear()
        for server in servers:
            server.stop()


SERVERS = ServerPool()
atexit.register(SERVERS.stop_all)
