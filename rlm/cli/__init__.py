"""The command ``rlm``. Each command has a file of its own, loaded when it is called."""
