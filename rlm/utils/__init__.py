"""Compatibility names for programs that import ``rlm.utils.prompts``."""
