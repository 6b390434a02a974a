"""Confinement of a worker process by the kernel's own means: ctypes only, no package, no privilege needed.

It runs inside the sandbox's processes, so it imports the standard library and the worker only. The host imports it only for
the names of levels.
"""
