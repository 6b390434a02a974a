"""Speed comparison with other engines, each in its own environment, all against one scripted server."""
