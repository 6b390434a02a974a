"""Drives nodes: performs the actions of the node table, makes turns, executes cells and serves sub-calls."""
