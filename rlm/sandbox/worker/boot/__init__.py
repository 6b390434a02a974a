"""Worker start-up: the zygote, pre-forked processes, warm-up, deterministic clock and randomness."""
