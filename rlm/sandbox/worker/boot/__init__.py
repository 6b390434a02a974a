"""Start-up of workers: the zygote, pre-forked processes, warm-up, deterministic clock and randomness, shared text."""
