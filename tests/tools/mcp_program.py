"""A server of the reference ``mcp`` package: ``python mcp_program.py [PORT]``, over stdio or, with a port, over HTTP."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mcp.server.mcpserver import MCPServer

server = MCPServer("reference")


@server.tool()
def add(a: int, b: int = 2) -> int:
    """Adds two numbers."""
    return a + b


@server.tool(name="read-note")
def read_note(path: str) -> str:
    """Reads a note."""
    return f"the note {path}"


@server.tool()
def table(rows: list[int], kind: str | None = None) -> dict[str, object]:
    """Makes a table."""
    return {"rows": rows, "kind": kind}


@server.tool()
def environment() -> list[str]:
    """Lists the names of variables."""
    return sorted(os.environ)


@server.tool()
def broken() -> str:
    """Fails."""
    raise ValueError("it broke")


@server.tool()
def die(mark: str) -> str:
    """Ends the server."""
    Path(mark).write_text("died", encoding="utf-8")
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run()
