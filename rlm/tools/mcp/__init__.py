"""Tools of MCP servers, over the official ``mcp`` package, which is an extra. All that a server sends is untrusted."""
