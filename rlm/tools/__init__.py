"""Tools: functions of the user's program, and of MCP servers, as the engine executes them. Loaded only if a run has tools."""
