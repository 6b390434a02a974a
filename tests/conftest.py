"""Settings of all tests: no run store, an own cache, default signals in child processes, no learnt dialects, and
architecture tests first."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm.models.dialect import forget_all

os.environ["RLM_STORE"] = "none"
os.environ["RLM_CACHE_DIR"] = tempfile.mkdtemp(prefix="rlm-test-cache-")
atexit.register(shutil.rmtree, os.environ["RLM_CACHE_DIR"], ignore_errors=True)

# A background job (``nohup pytest &``) ignores SIGINT and SIGHUP, and its children inherit that across exec. A Python handler
# does not survive exec, so children start with the default action. SIGHUP stays without effect on the test run itself.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda _number, _frame: None)

ARCHITECTURE = Path(__file__).parent / "architecture"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Runs the architecture tests first: they take seconds, and the rest can take minutes."""
    items.sort(key=lambda item: ARCHITECTURE not in item.path.parents)


@pytest.fixture(autouse=True)
def common_dialects() -> Iterator[None]:
    """Clears what the process has learnt about endpoints: ports of scripted servers repeat."""
    forget_all()
    yield
    forget_all()
