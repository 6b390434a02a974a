"""``rlm doctor`` as a real process: what it found by trying, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from rlm.cli.doctor import _facts, other_distributions
from rlm.sandbox.launchers.levels import Levels


def doctor(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rlm", "doctor", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


def test_no_probe_reaches_anything_at_strongest_level() -> None:
    shown = doctor("--json")
    report = json.loads(shown.stdout)
    assert shown.returncode == 0, [probe for probe in report["probes"] if probe["verdict"] == "reached"]
    assert report["sandbox"] in ("strict", "landlock", "seccomp", "seatbelt")
    assert len(report["probes"]) >= 60
    assert {probe["verdict"] for probe in report["probes"]} <= {"held", "harmless", "not run"}


@pytest.mark.parametrize(
    ("level", "leak"), [("landlock", "os.stat"), ("seccomp", "user and group ids"), ("strict", "")]
)
def test_leaks_of_the_level_are_named(level: str, leak: str) -> None:
    shown = "\n".join(text for _, text in _facts(Levels(level), level, Counter()))
    assert ("known leaks" in shown) == bool(leak)
    assert leak in shown


def test_unknown_level_is_a_usage_error() -> None:
    shown = doctor("--sandbox", "titanium")
    assert shown.returncode == 2
    assert "strict" in shown.stderr


def test_conflicting_distribution_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "other_rlm-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-rlm\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("rlm\n")
    (info / "RECORD").write_text("rlm/__init__.py,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "other-rlm" in other_distributions()
