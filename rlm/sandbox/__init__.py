"""Sandboxes: adapters of the port ``Sandbox`` that execute model-written code in processes of their own."""
