"""When a call may leave: slots shared fairly by the nodes of a run, and retries that hold none."""
