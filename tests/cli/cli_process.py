"""Runs ``rlm`` as a real process, against a scripted server, with a clean environment; also on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlm.testing.server import ScriptedServer, ServerScript
from rlm.testing.wire import ChatCall

ROOT = Path(__file__).parents[2]
WAIT_S = 60


def environment(server: ScriptedServer | None = None, **more: str) -> dict[str, str]:
    """The environment of a child process: the path, and the server as its OpenAI."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "LANG": "C.UTF-8",
        "HOME": "/nonexistent",
        "RLM_STORE": "none",
    }
    if server is not None:
        env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test-key"}
    return env | more


def rlm(
    *arguments: str,
    server: ScriptedServer | None = None,
    stdin: bytes | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """One command, to its end. Without ``stdin`` its standard input is empty."""
    return subprocess.run(
        [sys.executable, "-m", "rlm", *arguments],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        env=environment(server, **(env or {})),
        cwd=cwd or ROOT,
        timeout=WAIT_S,
        check=False,
    )


@contextlib.contextmanager
def serving(script: ServerScript, latency_s: float = 0.0) -> Iterator[ScriptedServer]:
    with ScriptedServer.in_thread(script, latency_s=latency_s) as server:
        yield server


def root_writes(*replies: str, leaf: str = "leaf answer") -> Callable[[ChatCall], str]:
    """A server's script: the root's turns in order (the last one again and again), one text for every leaf call."""

    def answer(call: ChatCall) -> str:
        return replies[min(call.turn, len(replies)) - 1] if call.is_root else leaf

    return answer


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


@dataclass
class Terminal:
    """A process on a pseudo-terminal. ``output`` is everything it has written so far."""

    process: subprocess.Popen[bytes]
    master: int
    output: bytes = b""

    def read_until(self, done: Callable[[bytes], bool]) -> bytes:
        """Reads until ``done`` is true of the output, or the process has closed the terminal."""
        deadline = time.monotonic() + WAIT_S
        while not done(self.output):
            if time.monotonic() > deadline:
                raise AssertionError(f"not seen within {WAIT_S} s; the terminal shows: {self.output!r}")
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if not ready:
                continue
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: the other side is closed
                break
            if not data:
                break
            self.output += data
        return self.output

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def finish(self) -> int:
        self.read_until(lambda _: False)
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def on_terminal(
    *arguments: str, server: ScriptedServer, rows: int = 24, columns: int = 90, **env: str
) -> Iterator[Terminal]:
    """``rlm`` with all its streams on a terminal of this size, of which it is the foreground process."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", _CONTROLLED, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(server, TERM="xterm-256color", **env),
        cwd=ROOT,
        start_new_session=True,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


# Takes the terminal as its controlling one first, so that Ctrl-C typed there reaches it as it reaches a real command.
_CONTROLLED = """
import fcntl, runpy, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("rlm", run_name="__main__", alter_sys=True)
"""
