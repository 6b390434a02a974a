"""Sessions with MCP servers: one for each run, in a task of its own on the event loop of tools."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from rlm.core.errors import SchemaError, ToolSourceError
from rlm.core.plain import to_json
from rlm.core.redaction import SECRETS
from rlm.core.tools import MAX_TOOLS, ToolFailure, ToolSpec, cut_end, one_line
from rlm.log import get_logger
from rlm.schemas.validator import TooManySteps, Validator, compile_schema
from rlm.tools.execution import LOOP, Slots
from rlm.tools.function_tool import KINDS, MAX_DOC_CHARS
from rlm.tools.mcp.forms import parameters_of, plain_result, python_name, text_of
from rlm.tools.mcp.http import bounded_client
from rlm.tools.mcp.server import McpServer
from rlm.tools.mcp.stdio import ServerProcess, stdio_transport
from rlm.tools.results import MAX_MESSAGE_CHARS, describe_error, to_plain

logger = get_logger(__name__)

MAX_PAGES = 20  # of a list of tools
VALIDATION_STEPS = 200_000
CLOSE_S = 6.0


async def open_session(server: McpServer) -> McpSession:
    """Opens a server on the current event loop, which must be that of tools.

    Raises:
        ToolSourceError: it cannot be started or reached, or lists its tools in an unusable form.
    """
    session = McpSession(server)
    try:
        async with asyncio.timeout(server.open_timeout_s):
            await session.start()
    except TimeoutError:
        await session.end()
        raise ToolSourceError(
            f"The MCP server {server.name} was not ready within {server.open_timeout_s:g} s."
        ) from None
    except BaseException:
        await session.end()
        raise
    return session


class McpSession:
    """A connection to a server, and its tools. Implements ``rlm.ports.ToolSession``."""

    def __init__(self, server: McpServer) -> None:
        self.server = server
        self.tools: Sequence[McpTool] = ()
        self._client: Client | None = None
        self._processes: list[ServerProcess] = []
        self._closing = asyncio.Event()
        self._ready: asyncio.Future[Sequence[McpTool]] = asyncio.get_running_loop().create_future()
        self._task: asyncio.Task[None] | None = None
        self._is_open = False

    async def start(self) -> None:
        """Connects and lists the tools. Raises ToolSourceError."""
        self._task = asyncio.create_task(self._run())
        self.tools = await self._ready
        self._is_open = True

    async def _run(self) -> None:
        """Holds the connection until it is closed: the package wants it opened and closed by one task."""
        try:
            async with Client(self._transport(), cache=None) as client:
                self._client = client
                tools = await self._list(client)
                if not self._ready.done():
                    self._ready.set_result(tools)
                await self._closing.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(self._describe(error))
            elif not isinstance(error, asyncio.CancelledError):
                logger.warning(
                    "the session with the MCP server %s failed: %s", self.server.name, describe_error(error)[1]
                )
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._client = None

    @asynccontextmanager
    async def _transport(self) -> Any:
        server = self.server
        if server.command:
            async with stdio_transport(server.command, server.env, self._processes) as streams:
                yield streams
            return
        async with (
            bounded_client(server.headers) as client,
            streamable_http_client(server.url, http_client=client) as streams,
        ):
            yield streams

    def _describe(self, error: BaseException) -> ToolSourceError:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ToolSourceError):
            return error
        kind, message = describe_error(error)
        ends = [process.ended for process in self._processes if process.ended]
        said = " ".join(process.last_errors for process in self._processes)
        detail = "; ".join([*ends, *([f"its last output: {SECRETS.redact_message(said)}"] if said else [])])
        return ToolSourceError(
            f"The MCP server {self.server.name} cannot be used: {detail or f'{kind}: {message}'}. "
            "Check its command or address."
        )

    async def _list(self, client: Client) -> Sequence[McpTool]:
        listed: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            request = types.ListToolsRequest(params=types.PaginatedRequestParams(cursor=cursor))
            page = await client.session.send_request(request, types.ListToolsResult)
            listed += page.tools
            cursor = page.next_cursor
            if cursor is None or len(listed) > MAX_TOOLS:
                break
        return self._choose(listed)

    def _choose(self, listed: Sequence[types.Tool]) -> Sequence[McpTool]:
        server, only = self.server, self.server.only
        names = [tool.name for tool in listed]
        if only is not None and (missing := [name for name in only if name not in names]):
            shown = one_line(", ".join(names))[:MAX_MESSAGE_CHARS]
            raise ToolSourceError(f"The MCP server {server.name} has no tool {', '.join(missing)}; it has {shown}.")
        tools: list[McpTool] = []
        for tool in listed:
            if only is not None and tool.name not in only:
                continue
            try:
                tools.append(McpTool(self, tool))
            except SchemaError as error:
                if only is not None:
                    message = (
                        f"The schema of {one_line(tool.name)} of the MCP server {server.name} is unusable: {error}"
                    )
                    raise ToolSourceError(message) from None
                logger.warning("left out %s of the MCP server %s: %s", one_line(tool.name), server.name, error)
        return tools

    @property
    def lost(self) -> str:
        """The reason why no call can succeed; empty if there is none."""
        ends = [process.ended for process in self._processes if process.ended]
        return ends[0] if ends else "its session has ended" if self._client is None else ""

    async def call(self, name: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        """One call, on the event loop of tools. Nothing here validates the result with the server's own schema."""
        client = self._client
        if client is None:
            raise ConnectionError(self.lost)
        request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
        return await client.session.send_request(request, types.CallToolResult, timeout_s)

    async def aclose(self) -> None:
        """See ``rlm.ports.ToolSession.aclose``."""
        await asyncio.wrap_future(LOOP.submit(self.end()))

    async def end(self) -> None:
        """Closes the connection and ends the process, on the event loop of tools."""
        self._closing.set()
        if not self._is_open:
            for process in self._processes:
                process.kill()
        if self._task is not None:
            _, pending = await asyncio.wait([self._task], timeout=CLOSE_S if self._is_open else 0)
            for task in pending:
                task.cancel()
            if pending:
                await asyncio.wait(pending, timeout=CLOSE_S)
        for process in self._processes:
            process.kill()


class McpTool:
    """A tool of a server. Implements ``rlm.ports.Tool``."""

    def __init__(self, session: McpSession, tool: types.Tool) -> None:
        server = session.server
        self._session = session
        self._name = tool.name
        schema = tool.input_schema
        self._validator: Validator = compile_schema(schema)
        parameters = parameters_of(schema)
        self.spec = ToolSpec(
            python_name(tool.name, server.prefix),
            parameters,
            "",
            cut_end(tool.description or tool.title or "", MAX_DOC_CHARS),
            tool.name in server.idempotent,
            None if server.depth == "all" else server.depth,
            server.max_calls,
            server.name,
        )
        self._signature = inspect.Signature(
            [
                inspect.Parameter(
                    parameter.label,
                    KINDS[parameter.kind],
                    default=inspect.Parameter.empty if parameter.default is None else parameter.default,
                )
                for parameter in parameters
            ]
        )
        self._slots = Slots(server.concurrency)

    async def call(self, args: Sequence[object], kwargs: Mapping[str, object], start: Callable[[], None]) -> object:
        """See ``rlm.ports.Tool.call``."""
        arguments = await asyncio.to_thread(self.bind, args, kwargs)
        await self._slots.acquire()
        try:
            if self._session.lost:
                raise ToolFailure("Unavailable", f"{self.spec.tool}: the server cannot be used: {self._session.lost}")
            start()
            return await asyncio.wrap_future(LOOP.submit(self._call(arguments)))
        finally:
            self._slots.release()

    def bind(self, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
        """The arguments as a JSON object that follows the tool's schema.

        Raises:
            ToolFailure: they do not.
        """
        tool = self.spec.tool
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ToolFailure("TypeError", f"{tool}: {error}") from None
        given: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            is_rest = self._signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            given |= value if is_rest else {name: value}
        arguments = {name: to_json(value) for name, value in given.items()}
        try:
            problems = self._validator.problems(arguments, "the arguments", steps=VALIDATION_STEPS)
        except TooManySteps:
            raise ToolFailure("TypeError", f"{tool}: the arguments are too large to be checked") from None
        if problems:
            raise ToolFailure("TypeError", f"{tool}: {cut_end('; '.join(problems), 4 * MAX_MESSAGE_CHARS)}")
        return arguments

    async def _call(self, arguments: dict[str, Any]) -> object:
        tool, server = self.spec.tool, self._session.server
        try:
            async with asyncio.timeout(server.timeout_s + 1):
                result = await self._session.call(self._name, arguments, server.timeout_s)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  an exception in the cell
            raise self._failed(error) from None
        if result.is_error:
            raise ToolFailure("ServerError", f"{tool}: {_message(text_of(result)) or 'the server reports an error'}")
        return to_plain(tool, plain_result(result))

    def _failed(self, error: BaseException) -> ToolFailure:
        tool, kind = self.spec.tool, type(error).__name__
        message = error.message if isinstance(error, MCPError) else describe_error(error)[1]
        lost = self._session.lost
        if isinstance(error, TimeoutError) or (isinstance(error, MCPError) and error.code == types.REQUEST_TIMEOUT):
            seconds = self._session.server.timeout_s
            return ToolFailure(
                "TimeoutError", f"{tool}: the server did not answer within {seconds:g} s; whether it acted is unknown"
            )
        if lost or isinstance(error, ConnectionError):
            return ToolFailure(
                "ConnectionError",
                f"{tool}: the server cannot be used any more: {lost or message}; whether it acted is unknown",
            )
        return ToolFailure("ServerError", f"{tool}: {kind}: {_message(message)}")


def _message(text: str) -> str:
    return cut_end(one_line(SECRETS.redact_message(text[: 4 * MAX_MESSAGE_CHARS])), MAX_MESSAGE_CHARS)
