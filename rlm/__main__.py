"""``python -m rlm`` is the command ``rlm``."""

import sys

from rlm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
