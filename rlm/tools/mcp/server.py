"""MCP servers as sources of tools: how a server is started or reached, and its tools opened for a run.

The ``mcp`` package takes a second to import, so ``session`` is imported when the first run opens a server.
"""

from __future__ import annotations

import asyncio
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rlm.core.errors import ConfigurationError, MissingExtraError
from rlm.core.redaction import SECRETS, secrets_of_address
from rlm.core.tools import one_line
from rlm.ports import ToolSession
from rlm.tools.execution import LOOP

INSTALL_LINE = "pip install 'rlm-arbor[mcp]'"
OPEN_TIMEOUT_S = 60.0  # for a server to start and to list its tools: the first start of some downloads a package
CALL_TIMEOUT_S = 120.0
CONCURRENCY = 8
MAX_NAME_CHARS = 120
_SCRIPT = re.compile(r"(?=[^\s]*[./@])[@\w][@\w./-]{0,99}|/[\w./-]{1,99}")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


@dataclass(frozen=True)
class McpServer:
    """An MCP server that provides tools. Implements ``rlm.ports.ToolSource``; made by ``rlm.mcp_tools``."""

    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    only: tuple[str, ...] | None = None
    prefix: str = ""
    idempotent: tuple[str, ...] = ()
    timeout_s: float = CALL_TIMEOUT_S
    open_timeout_s: float = OPEN_TIMEOUT_S
    concurrency: int = CONCURRENCY
    max_calls: int | None = None
    depth: int | Literal["all"] = 0

    @property
    def name(self) -> str:
        """The server in one line, for messages: its address, or its command with the package or script that it names."""
        if self.url:
            return one_line(SECRETS.redact_message(self.url))[:MAX_NAME_CHARS]
        named = next((word for word in self.command[1:] if _SCRIPT.fullmatch(word)), "")  # other words can be secrets
        words = [Path(self.command[0]).name, *([named] if named else [])]
        return one_line(SECRETS.redact_message(" ".join(words)))[:MAX_NAME_CHARS]

    async def open(self) -> ToolSession:
        """See ``rlm.ports.ToolSource.open``. Starts the server, or connects to it, on the event loop of tools."""
        return await asyncio.wrap_future(LOOP.submit(self._open()))

    async def _open(self) -> ToolSession:
        session: Any = import_module("rlm.tools.mcp.session")
        opened: ToolSession = await session.open_session(self)
        return opened

    def __iter__(self) -> Any:
        """Itself alone: ``[*rlm.mcp_tools(...), function]`` is a list of tools."""
        return iter((self,))

    def __hash__(self) -> int:
        return hash((self.command, self.url, self.prefix))


def mcp_tools(
    server: str | Sequence[str],
    *,
    env: Mapping[str, str] | Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
    prefix: str = "",
    idempotent: Sequence[str] = (),
    timeout_s: float = CALL_TIMEOUT_S,
    open_timeout_s: float = OPEN_TIMEOUT_S,
    concurrency: int = CONCURRENCY,
    max_calls: int | None = None,
    depth: int | Literal["all"] = 0,
) -> McpServer:
    """The tools of an MCP server, for ``RLM(tools=[...])``. Each run has a session of its own, which ends with the run.

    Args:
        server: a command line, its words, or the address of a server with streamable HTTP. A command line can begin with
            ``NAME=value`` words; ``$NAME`` as a value is this process's own variable.
        env: variables of a started server: names of this process's variables, or a mapping. It gets no others but PATH, HOME,
            and their like.
        headers: HTTP headers, for instance an authorization.
        only: names of tools to use, as the server lists them; None uses all.
        prefix: begins the names of its tools in the REPL.
        idempotent: names of tools that can be executed again after an interruption.
        timeout_s: seconds for one call.
        open_timeout_s: seconds for the server to start and to list its tools.
        concurrency: calls at once.
        max_calls: calls of each tool in one run.
        depth: as for ``rlm.tool``.

    Raises:
        ConfigurationError: an argument cannot be used.
        MissingExtraError: the ``mcp`` package is not installed.
    """
    if find_spec("mcp") is None:
        raise MissingExtraError("rlm.mcp_tools", INSTALL_LINE)
    for name, value in (("timeout_s", timeout_s), ("open_timeout_s", open_timeout_s), ("concurrency", concurrency)):
        if not 0 < value < float("inf"):
            raise ConfigurationError(f"`{name}` of mcp_tools must be more than 0; got {value!r}.")
    if prefix and not prefix.isidentifier():
        raise ConfigurationError(f"`prefix` of mcp_tools must be the beginning of a Python name; got {prefix!r}.")
    words, url, variables = _read_server(server, _variables(env))
    SECRETS.add([*variables.values(), *(headers or {}).values(), *secrets_of_address(url)])
    return McpServer(
        command=words,
        url=url,
        env=variables,
        headers=dict(headers or {}),
        only=None if only is None else tuple(only),
        prefix=prefix,
        idempotent=tuple(idempotent),
        timeout_s=timeout_s,
        open_timeout_s=open_timeout_s,
        concurrency=int(concurrency),
        max_calls=max_calls,
        depth=depth,
    )


def mcp_servers(servers: Sequence[str]) -> list[McpServer]:
    """The servers of ``--mcp`` flags."""
    return [mcp_tools(server) for server in servers]


def _variables(env: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    if isinstance(env, Mapping):
        return {str(name): str(value) for name, value in env.items()}
    names = [env] if isinstance(env, str) else env
    return {name: _own(name) for name in names}


def _own(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ConfigurationError(f"The environment variable {name} of an MCP server is not set. Export it first.")
    return value


def _read_server(server: str | Sequence[str], variables: dict[str, str]) -> tuple[tuple[str, ...], str, dict[str, str]]:
    """The command of a server with all its variables, or its address."""
    if isinstance(server, str) and re.match(r"https?://", server.strip(), re.IGNORECASE):
        return (), server.strip(), variables
    words, assigned = _read_command(server)
    return words, "", variables | assigned


def _read_command(command: str | Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """The words of a command line, and the variables assigned before them."""
    try:
        words = shlex.split(command) if isinstance(command, str) else [str(word) for word in command]
    except ValueError as error:
        raise ConfigurationError(f"The command of an MCP server cannot be read: {error}. Check its quotes.") from None
    assigned: dict[str, str] = {}
    while words and isinstance(command, str) and _ASSIGNMENT.match(words[0]):
        name, _, value = words.pop(0).partition("=")
        assigned[name] = _own(value[1:]) if re.fullmatch(r"\$[A-Za-z_][A-Za-z0-9_]*", value) else value
    if not words or any("\0" in word for word in words):
        raise ConfigurationError("An MCP server needs a command or an address: rlm.mcp_tools('command ...').")
    return tuple(words), assigned
