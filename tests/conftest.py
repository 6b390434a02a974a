"""Settings of all tests: no run is stored unless a test asks for it, and the architecture tests run first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["RLM_STORE"] = "none"

ARCHITECTURE = Path(__file__).parent / "architecture"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the architecture tests first: they take seconds, and the rest can take minutes."""
    items.sort(key=lambda item: ARCHITECTURE not in item.path.parents)
