"""Stores of runs: SQLite, one file for all runs and processes of a user, and the memory of one process."""
