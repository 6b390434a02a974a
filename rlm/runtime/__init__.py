"""Process-wide runtime: the event loop, shared resources, the journal of runs and their handles."""
