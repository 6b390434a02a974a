"""Speed against other engines: each in an environment of its own, all against the same scripted server."""
