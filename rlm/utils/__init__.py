"""Kept for programs that import ``rlm.utils.prompts``."""
