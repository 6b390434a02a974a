"""The command ``rlm``. Each command has a file of its own, loaded only when it is called."""
