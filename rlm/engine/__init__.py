"""The thin async driver around the pure core: performs what a node's table orders, through the ports."""
