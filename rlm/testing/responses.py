"""How the scripted server answers over HTTP, well or badly: whole, streamed, slowly, cut in the middle, or with a reset."""

from __future__ import annotations

import asyncio
import socket
import struct

import orjson
from aiohttp import web

from rlm.testing.wire import ChatCall, Json, ScriptedReply, error_body, openai_chunks, success_body


async def respond(request: web.BaseRequest, call: ChatCall, reply: ScriptedReply) -> web.StreamResponse:
    if reply.reset:
        return _reset_connection(request)
    if call.body.get("stream") and reply.status < 400 and call.api == "openai" and reply.body is None:
        return await _stream(request, call, reply)
    payload = _payload(call, reply)
    if reply.cut or reply.slow_body_s:
        return await _send_badly(request, payload, reply)
    return web.Response(
        body=payload, status=reply.status, headers=reply.headers or None, content_type="application/json"
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
    return web.Response(status=500)  # written to nobody


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


async def _stream(request: web.BaseRequest, call: ChatCall, reply: ScriptedReply) -> web.StreamResponse:
    response = web.StreamResponse(headers=reply.headers or None)
    response.content_type = "text/event-stream"
    await response.prepare(request)
    chunks = openai_chunks(call, reply)
    for chunk in chunks:
        await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
        if reply.slow_body_s:
            await asyncio.sleep(reply.slow_body_s / len(chunks))
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response
