"""Adapters of the port ``Sandbox``: model-written code runs in separate, confined processes."""
