"""Escapes and abuses, each a small cell that a REPL runs, to see what a level of isolation holds on this machine."""
