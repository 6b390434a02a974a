"""The program inside the sandbox. It imports the standard library and itself only.

The worker runs by path under ``python -I -S``, as a package of its own. The host imports its pure modules (``wire.frames``,
``wire.values``), so that both ends share one definition of the wire format.
"""
