"""How a worker process gives up what it could do, by the kernel's means alone: ctypes, no package, no privilege needed.

Runs inside the sandbox's processes, so it imports nothing of the package; the host imports it only for names of levels.
"""
