"""Scheduling decisions: slots shared fairly by the nodes of a run, pace, and retries."""
