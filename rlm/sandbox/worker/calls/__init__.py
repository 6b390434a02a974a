"""Sub-calls of a worker: query functions, open calls, waiters and the socket reader."""
