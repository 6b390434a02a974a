"""A scripted provider on a real loopback socket: OpenAI's chat completions and Anthropic's messages.

For tests and benchmarks: latency, errors, hangs, resets, slow and broken bodies, refusals, and usage with cached
tokens, all by a script in Python. ``python -m rlm.testing.server`` runs one as its own process. It stores the bodies that it
received and checks no key, so do not send it real data.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import signal
import socket
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, cast

import orjson
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from rlm.core.errors import ConfigurationError
from rlm.core.messages import Usage
from rlm.testing.prefix import AnthropicCache, PrefixCache
from rlm.testing.responses import json_response, respond
from rlm.testing.wire import (
    Api,
    ChatCall,
    Json,
    ScriptedReply,
    StreamShape,
    error_body,
    join_messages,
    measure_usage,
    read_messages,
)

__all__ = ["ChatCall", "ScriptedReply", "ScriptedServer", "ServerScript", "StreamShape"]

ServerAnswer: TypeAlias = str | ScriptedReply
ServerScript: TypeAlias = str | Callable[[ChatCall], ServerAnswer | Awaitable[ServerAnswer]] | Sequence[ServerAnswer]

_BACKLOG = 4096  # a thousand clients connect in one burst; the kernel drops what does not fit
_MAX_BODY_BYTES = 1 << 30


class ScriptedServer:
    """An OpenAI- and Anthropic-compatible server that answers by script.

        async with ScriptedServer(lambda call: "yes") as server: ...     # on the running loop
        with ScriptedServer.in_thread(["first", "second"]) as server: ...  # on a thread of its own

    Args:
        script: one text for all calls, a function of the call (can be async), or replies in order.
        latency_s: before each reply, unless the reply has its own.
        port: 0 takes a free one.

    Attributes:
        calls: every call, in the order of arrival. ``in_flight_max``: the maximum number of open calls.
        script_errors: tracebacks of a script that raised; the client gets a 400 that quotes it.
    """

    def __init__(self, script: ServerScript = "ok", *, latency_s: float = 0.0, port: int = 0) -> None:
        self._answer = _as_function(script)
        self._latency_s = latency_s
        self._port = port
        self._cache = PrefixCache()
        self._anthropic_cache = AnthropicCache()
        self._runner: web.ServerRunner | None = None
        self.calls: list[ChatCall] = []
        self.in_flight = 0
        self.in_flight_max = 0
        self.script_errors: list[str] = []

    async def __aenter__(self) -> ScriptedServer:
        server = web.Server(self._serve, request_factory=_make_request, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        listener = socket.create_server(("127.0.0.1", self._port), backlog=_BACKLOG)
        self._port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener, backlog=_BACKLOG).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @classmethod
    @contextmanager
    def in_thread(
        cls, script: ServerScript = "ok", *, latency_s: float = 0.0, port: int = 0
    ) -> Iterator[ScriptedServer]:
        """A server on a thread with its own loop, for clients that block."""
        server = cls(script, latency_s=latency_s, port=port)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="scripted-server", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
            try:
                yield server
            finally:
                asyncio.run_coroutine_threadsafe(server.__aexit__(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @property
    def base_url(self) -> str:
        """The address for OpenAI's clients; it ends with ``/v1``."""
        return f"{self.url}/v1"

    @property
    def url(self) -> str:
        """The address for Anthropic's clients, which add ``/v1`` themselves."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def prompts(self) -> list[str]:
        """The newest message of every call, in the order of arrival."""
        return [call.prompt for call in self.calls]

    @property
    def usage(self) -> dict[str, Usage]:
        """The reported usage, by model."""
        totals: dict[str, Usage] = {}
        for call in self.calls:
            totals[call.model] = totals.get(call.model, Usage()) + call.usage
        return totals

    def reset(self) -> None:
        """Forgets calls, peaks and caches."""
        self.calls.clear()
        self.script_errors.clear()
        self.in_flight_max = self.in_flight
        self._cache, self._anthropic_cache = PrefixCache(), AnthropicCache()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path:
            case "POST", "/v1/chat/completions":
                return await self._serve_call(request, "openai")
            case "POST", "/v1/messages":
                return await self._serve_call(request, "anthropic")
            case "GET", "/v1/models":
                return json_response(
                    {"object": "list", "data": [{"id": "scripted", "object": "model", "owned_by": "rlm"}]}
                )
            case "GET", "/stats":
                return json_response(self._stats())
            case "POST", "/reset":
                self.reset()
                return json_response({})
            case _:
                return json_response(
                    error_body("openai", f"no route {request.method} {request.path}", "not_found"), 404
                )

    async def _serve_call(self, request: web.BaseRequest, api: Api) -> web.StreamResponse:
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        call: ChatCall | None = None
        try:
            call = await self._read_call(request, api)
            return await self._answer_call(request, call)
        except (ValueError, TypeError, ConfigurationError) as error:
            return json_response(error_body(api, f"bad request: {error}", "invalid_request"), 400)
        except asyncio.CancelledError:
            if call is not None:
                call.cancelled = True
            raise
        finally:
            self.in_flight -= 1
            if call is not None:
                call.ended_s = time.monotonic()

    async def _read_call(self, request: web.BaseRequest, api: Api) -> ChatCall:
        started_s = time.monotonic()
        body = orjson.loads(await request.read())
        if not isinstance(body, dict):
            raise TypeError("the body must be a JSON object")
        messages = read_messages(api, body)
        call = ChatCall(
            len(self.calls) + 1,
            api,
            str(body.get("model", "")),
            messages,
            request.headers,
            body,
            self.in_flight,
            started_s,
        )
        self.calls.append(call)
        return call

    async def _answer_call(self, request: web.BaseRequest, call: ChatCall) -> web.StreamResponse:
        reply = await self._ask_script(call)
        cache = self._anthropic_cache if call.api == "anthropic" else self._cache
        usage = measure_usage(call, reply, cache)  # before the wait: the state of the cache when the call arrived
        latency_s = self._latency_s if reply.latency_s is None else reply.latency_s
        if latency_s:
            await asyncio.sleep(latency_s)
        if reply.hang:
            await asyncio.Event().wait()
        if reply.status < 400 and not reply.reset:
            call.usage = usage
            if isinstance(cache, AnthropicCache):
                cache.store(call.body)
            else:
                cache.store(join_messages(call.messages))
        response = await respond(request, call, reply)
        call.status = 0 if reply.reset else reply.status
        return response

    async def _ask_script(self, call: ChatCall) -> ScriptedReply:
        try:
            answer = self._answer(call)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception as error:  # noqa: BLE001 - a script is the test author's code: report it, do not die of it
            self.script_errors.append(traceback.format_exc())
            return ScriptedReply(f"the script failed: {error!r}", status=400, error_code="script_failed", latency_s=0)
        return ScriptedReply(answer) if isinstance(answer, str) else answer

    def _stats(self) -> Json:
        total = sum(self.usage.values(), Usage())
        return {
            "calls": len(self.calls),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "cancelled": sum(call.cancelled for call in self.calls),
            "input_tokens": total.input_tokens,
            "cached_tokens": total.cached_tokens,
            "output_tokens": total.output_tokens,
        }


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    loop = asyncio.get_running_loop()
    return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY_BYTES)


def _as_function(script: ServerScript) -> Callable[[ChatCall], ServerAnswer | Awaitable[ServerAnswer]]:
    if isinstance(script, str):
        return lambda call: script
    if callable(script):
        return script
    replies = list(script)

    def in_order(call: ChatCall) -> ServerAnswer:
        if call.number > len(replies):
            raise IndexError(f"the script has {len(replies)} replies, this is call {call.number}")
        return replies[call.number - 1]

    return in_order


async def _run_forever(server: ScriptedServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    async with server:
        print(server.base_url, flush=True)
        await stop.wait()


def main() -> None:
    """Runs a server until SIGTERM; its URL is the first line on standard output."""
    parser = argparse.ArgumentParser(prog="python -m rlm.testing.server", description=main.__doc__)
    parser.add_argument("--text", default="ok", help="the reply to every call")
    parser.add_argument("--script", help="MODULE:FUNCTION that answers calls, instead of --text")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    options = parser.parse_args()
    script: ServerScript = options.text
    if options.script:
        module, _, function = options.script.partition(":")
        script = cast("ServerScript", getattr(importlib.import_module(module), function))
    asyncio.run(_run_forever(ScriptedServer(script, latency_s=options.latency, port=options.port)))


if __name__ == "__main__":
    main()
