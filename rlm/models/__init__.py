"""Models behind the ``Model`` port: providers over HTTP, local weights, plans. ``registry.open_model`` opens one by name."""
