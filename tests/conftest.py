"""For all tests: runs are kept nowhere, unless a test says where."""

from __future__ import annotations

import os

os.environ["RLM_STORE"] = "none"
