"""A transport of the ``mcp`` package over the pipes of a server's process, with limits.

The package's own transport reads lines of any length and any number of them. This one ends a server that sends too
much. It starts the server in a process group of its own, and keeps the end of its stderr for messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import anyio
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from rlm.core.tools import one_line
from rlm.log import get_logger

logger = get_logger(__name__)

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_UNASKED_BYTES = 64 * 1024 * 1024  # between two responses
MAX_GARBAGE_LINES = 100  # that are not JSON-RPC: some servers print to stdout
STDERR_CHARS = 600
END_S, TERMINATE_S = 1.5, 1.0  # for a server to end after its stdin is closed, and after SIGTERM


class ServerProcess:
    """A server's process and its messages. ``ended`` is the reason why there are no more, or empty."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._errors = bytearray()
        self._unasked = self._garbage = 0
        self.ended = ""

    @property
    def last_errors(self) -> str:
        """The end of its stderr, in one line."""
        return one_line(self._errors.decode("utf-8", "replace"))[-STDERR_CHARS:]

    async def read(self, stream: Any) -> None:
        """Passes messages of the server on, until it ends or sends too much."""
        assert self._process.stdout is not None
        async with stream:
            while True:
                try:
                    line = await self._process.stdout.readuntil(b"\n")
                except asyncio.IncompleteReadError:
                    self.ended = self.ended or "it has ended"
                    return
                except asyncio.LimitOverrunError:
                    self.ended = f"it sent a line of more than {MAX_LINE_BYTES >> 20} MB"
                    return
                message = self._parse(line)
                if self.ended:
                    return
                if message is not None:
                    try:
                        await stream.send(message)
                    except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                        return

    def _parse(self, line: bytes) -> SessionMessage | None:
        self._unasked += len(line)
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            self._garbage += bool(line.strip())
            message = None
        if message is not None and hasattr(message, "id") and not hasattr(message, "method"):
            self._unasked = self._garbage = 0
        if self._garbage > MAX_GARBAGE_LINES or self._unasked > MAX_UNASKED_BYTES:
            self.ended = "it sent too much that nobody asked for"
        return None if message is None else SessionMessage(message)

    async def write(self, stream: Any) -> None:
        """Sends messages to the server."""
        assert self._process.stdin is not None
        async with stream:
            async for message in stream:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    self._process.stdin.write(text.encode("utf-8", "backslashreplace") + b"\n")
                    await self._process.stdin.drain()
                except (ConnectionError, RuntimeError):
                    return

    async def read_errors(self) -> None:
        """Keeps the end of the server's stderr."""
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(65536):
            self._errors += data
            del self._errors[: -4 * STDERR_CHARS]

    def kill(self) -> None:
        """Kills the process and its group now."""
        self._kill(signal.SIGKILL)

    async def end(self) -> None:
        """Ends the process and its group: by closing stdin, by SIGTERM, and by SIGKILL."""
        with contextlib.suppress(OSError, RuntimeError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        if not await self._has_ended(END_S):
            self._kill(signal.SIGTERM)
            await self._has_ended(TERMINATE_S)
        self._kill(signal.SIGKILL)  # also what it has started
        await self._has_ended(TERMINATE_S)

    def close(self) -> None:
        """Closes its pipes, which a server that is not read to its end leaves open."""
        transport: Any = self._process._transport  # type: ignore[attr-defined]
        transport.close()

    async def _has_ended(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._process.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


@contextlib.asynccontextmanager
async def stdio_transport(
    command: Sequence[str], env: Mapping[str, str], opened: list[ServerProcess]
) -> AsyncIterator[tuple[Any, Any]]:
    """The streams of a started server. ``opened`` receives its process.

    Raises:
        OSError: the command cannot be started.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**get_default_environment(), **env},
        limit=MAX_LINE_BYTES,
        start_new_session=True,
    )
    server = ServerProcess(process)
    opened.append(server)
    try:
        to_session, read_stream = anyio.create_memory_object_stream[Any](0)
        write_stream, from_session = anyio.create_memory_object_stream[Any](0)
        async with anyio.create_task_group() as group:
            group.start_soon(server.read, to_session)
            group.start_soon(server.write, from_session)
            group.start_soon(server.read_errors)
            try:
                yield read_stream, write_stream
            finally:
                with anyio.CancelScope(shield=True):
                    await server.end()
                    for stream in (read_stream, write_stream, to_session, from_session):
                        await stream.aclose()
                group.cancel_scope.cancel()
    finally:
        server.kill()
        server.close()
