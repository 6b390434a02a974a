"""``python -m rlm`` is the command ``rlm``."""

from rlm.cli.main import run

if __name__ == "__main__":
    run()
