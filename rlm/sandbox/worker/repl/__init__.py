"""The REPL of a worker: cell execution, output capture, scaffold names and error reports."""
