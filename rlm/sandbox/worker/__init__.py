"""The program inside the sandbox. Standard library only; imports nothing of the package around it.

It runs under ``python -I -S`` by path, as a package of its own, and the host imports its pure modules (``wire``,
``values``), so that both ends share one definition of what crosses between them.
"""
