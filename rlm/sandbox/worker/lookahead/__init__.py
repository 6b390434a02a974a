"""Lookahead: a forked copy of the REPL runs ahead to find the next prompts."""
