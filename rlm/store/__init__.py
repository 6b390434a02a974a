"""Where runs are kept: SQLite, one file for as many runs and processes as there are."""
