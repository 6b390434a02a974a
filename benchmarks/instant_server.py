"""A chat-completions server that costs almost nothing: canned replies on raw sockets, without an HTTP library.

    python -m benchmarks.instant_server

It prints its base URL. A prompt that starts with "Label" or "Generated" gets the reply "label". Any other request is a root turn:
its question names a case and a count, and the reply is that cell.
"""

from __future__ import annotations

import asyncio
import json
import re

CELLS = {
    "batch": "replies = llm_query_batch([f'Label item {{i}}.' for i in range({count})])\nFINAL(len(replies))",
    "generator": "FINAL(len(llm_query_batch('Generated prompt ' + str(i) for i in range({count}))))",
}
QUESTION = re.compile(rb"Question: (\w+) (\d+)")


def respond(text: str) -> bytes:
    """A complete response with this text as its reply."""
    message = {"role": "assistant", "content": text}
    body = json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "model": "bench",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
        }
    ).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


LABEL = respond("label")


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        while end >= 0:
            head = self._buffer[:end].lower()
            size = end + 4 + int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._buffer) < size:
                return
            body, self._buffer = self._buffer[end + 4 : size], self._buffer[size:]
            self._transport.write(answer(body))
            end = self._buffer.find(b"\r\n\r\n")


def answer(body: bytes) -> bytes:
    """The response to one request body."""
    if b'"content":"Label' in body or b'"content":"Generated' in body or b'"content": "Label' in body:
        return LABEL
    match = QUESTION.search(body)
    assert match is not None, body[:200]
    cell = CELLS[match[1].decode()].format(count=int(match[2]))
    return respond(f"```repl\n{cell}\n```")


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=4096)
    host, port = server.sockets[0].getsockname()
    print(f"http://{host}:{port}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
