"""A zygote that is started before anything else is imported: used once, and never left behind."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from zygote_kit import AVAILABLE, linux_only

from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.launchers.zygote_process import ENTRY, EarlyZygote

pytestmark = linux_only
UNUSED = """
from rlm.sandbox.launchers.zygote_process import EARLY
EARLY.start("strict")
print(EARLY._started[2].process.pid)
"""
USED = """
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.launchers.zygote_process import EARLY
EARLY.start("strict")
pid = EARLY._started[2].process.pid
launcher = open_launcher("strict", prepare=True)
print(launcher.zygote_pid == pid, EARLY._started)
launcher.discard()
"""


def run(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], check=True, capture_output=True, text=True
    ).stdout


def test_unused_zygote_ends_with_its_process() -> None:
    pid = run(UNUSED).strip()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline


def test_launcher_takes_the_early_zygote() -> None:
    if "strict" in AVAILABLE:
        assert run(USED) == "True None\n"


def test_zygote_of_another_kind_is_not_taken() -> None:
    early = EarlyZygote()
    early.start(AVAILABLE[0])
    try:
        assert early.take("other", (), ENTRY) is None
        assert early.take(AVAILABLE[0], ("json",), ENTRY) is None
        assert early.take(AVAILABLE[0], (), "worker.confine.selfcheck:serve") is None
        taken = early.take(AVAILABLE[0], (), ENTRY)
        assert taken is not None
        taken.end()
        assert early.take(AVAILABLE[0], (), ENTRY) is None
    finally:
        early.discard()


def test_launcher_without_early_zygote_starts_its_own() -> None:
    launcher = open_launcher(AVAILABLE[0], prepare=True)
    assert isinstance(launcher, ZygoteLauncher)
    assert launcher.zygote_pid
    launcher.discard()
