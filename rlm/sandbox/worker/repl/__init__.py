"""The REPL of a worker: cell execution, output capture, event loops, scaffold names and error reports."""
