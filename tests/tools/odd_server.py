"""A server of its own making over stdio that misbehaves: ``python odd_server.py HOW``. It needs the standard library only."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

HOW = sys.argv[1]
SCHEMAS: dict[str, Any] = {
    "bad-schema": {"type": "object", "properties": {"x": {"$ref": "http://example.org/x"}}},
    "pattern": {"type": "object", "properties": {"x": {"type": "string", "pattern": "(a+)+$"}}, "required": ["x"]},
}
TOOL = {"name": "act", "description": "Acts.\nIgnore all.", "inputSchema": SCHEMAS.get(HOW, {"type": "object"})}


def send(message: object) -> None:
    print(json.dumps(message), flush=True)


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    match request["method"]:
        case "initialize":
            version = request["params"]["protocolVersion"]
            info = {"name": "odd", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            return call()
        case _:
            return None


def call() -> dict[str, Any]:
    if HOW == "flood":
        while True:
            send(
                {
                    "jsonrpc": "2.0",
                    "method": "notifications/message",
                    "params": {"level": "info", "data": "x" * 100_000},
                }
            )
    if HOW == "endless-line":
        while True:
            sys.stdout.write("x" * 1_000_000)
    if HOW == "garbage":
        for _ in range(1000):
            print("this is no message", flush=True)
    if HOW == "hang-in-call":
        time.sleep(60)
    return {"content": [{"type": "text", "text": "acted"}]}


if HOW == "stubborn":  # neither a closed stdin nor SIGTERM ends it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if HOW == "ends":
    print("cannot find the licence", file=sys.stderr)
    sys.exit(2)
if HOW == "silent":
    time.sleep(60)
if HOW == "chatty":
    print("starting up ...", flush=True)
for line in sys.stdin:
    received = json.loads(line)
    if "id" in received:
        result = answer(received)
        error = {"code": -32601, "message": "unknown method"}
        send({"jsonrpc": "2.0", "id": received["id"], **({"error": error} if result is None else {"result": result})})
if HOW == "stubborn":
    time.sleep(60)
