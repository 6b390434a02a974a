"""The pure core of the engine: data, rules and tables. Nothing here awaits, reads a clock, logs or does I/O."""
