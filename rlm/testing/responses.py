"""HTTP responses of the scripted server: whole, streamed, slow, cut in the middle, or a reset connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import replace

import orjson
from aiohttp import web

from rlm.testing.streams import make_events
from rlm.testing.wire import ChatCall, Json, ScriptedReply, StreamShape, error_body, success_body


async def respond(request: web.BaseRequest, call: ChatCall, reply: ScriptedReply) -> web.StreamResponse:
    if reply.reset:
        return _reset_connection(request)
    if call.body.get("stream") and reply.stream is not None and reply.status < 400 and reply.body is None:
        return await _stream(request, call, reply, reply.stream)
    payload = _payload(call, reply)
    if reply.cut or reply.slow_body_s:
        return await _send_badly(request, payload, reply)
    return web.Response(
        body=payload, status=reply.status, headers=reply.headers or None, content_type=reply.content_type
    )


def json_response(body: Json, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _payload(call: ChatCall, reply: ScriptedReply) -> bytes:
    if reply.body is not None:
        return reply.body.encode() if isinstance(reply.body, str) else reply.body
    if reply.status >= 400:
        return orjson.dumps(error_body(call.api, reply.text, reply.error_code, reply.error_type))
    return orjson.dumps(success_body(call, reply))


def _reset_connection(request: web.BaseRequest) -> web.Response:
    transport = request.transport
    if transport is not None:
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends RST, not FIN
        transport.abort()
    return web.Response(status=500)  # the connection is closed: nothing is written


async def _send_badly(request: web.BaseRequest, payload: bytes, reply: ScriptedReply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers or None)
    response.content_type = "application/json"
    response.content_length = len(payload)
    await response.prepare(request)
    half = len(payload) // 2
    await response.write(payload[:half])
    if reply.slow_body_s:
        await asyncio.sleep(reply.slow_body_s)
    if reply.cut:
        if request.transport is not None:
            request.transport.close()
        return response
    await response.write(payload[half:])
    await response.write_eof()
    return response


async def _stream(
    request: web.BaseRequest, call: ChatCall, reply: ScriptedReply, shape: StreamShape
) -> web.StreamResponse:
    response = web.StreamResponse(headers=reply.headers or None)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    events = make_events(call, reply, shape)
    if reply.cut:
        shape = replace(shape, break_after=len(events) // 2)
    delay_s = shape.delay_s or reply.slow_body_s / len(events)
    for number, event in enumerate(events):
        if number == shape.break_after:
            if request.transport is not None:
                request.transport.close()
            return response
        if number and delay_s:
            await asyncio.sleep(delay_s)
        await _write(response, event + 2 * shape.line_end.encode(), shape.write_bytes)
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, data: bytes, size: int | None) -> None:
    for start in range(0, len(data), size or len(data)):
        await response.write(data[start : start + (size or len(data))])
        if size:
            await asyncio.sleep(0)  # in its own packet
