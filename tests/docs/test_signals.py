"""Signal handling of the test suite itself when it runs as a background job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRINT_IGNORED = "import signal as s; print([n.name for n in (s.SIGINT, s.SIGHUP) if s.getsignal(n) is s.SIG_IGN])"


def test_children_start_with_default_signal_handlers() -> None:
    child = subprocess.run([sys.executable, "-c", PRINT_IGNORED], capture_output=True, text=True, check=True)
    assert child.stdout == "[]\n"


def test_background_job_restores_handlers_for_children() -> None:
    """Runs the test above with SIGINT and SIGHUP ignored, as ``nohup ... &`` starts it."""
    test = f"{__file__}::{test_children_start_with_default_signal_handlers.__name__}"
    job = subprocess.run(
        [
            "sh",
            "-c",
            'trap "" INT HUP; exec "$@"',
            "sh",
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            test,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert job.returncode == 0, job.stdout
