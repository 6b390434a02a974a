"""Detection of levels by trial, not by version. A requested level is provided or refused, never replaced silently."""

from __future__ import annotations

import json
import resource
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from zygote_kit import AVAILABLE, FOLDER, linux_only, root_only, run_once, run_program

from rlm.core.errors import ConfigurationError, SandboxUnavailableError
from rlm.sandbox.launchers.levels import find_level, open_launcher, try_level
from rlm.sandbox.launchers.zygote import ZygoteLauncher
from rlm.sandbox.sandbox import WorkerSandbox

PROGRAM = FOLDER / "level_program.py"
LANDLOCK = "landlock_create_ruleset"


def levels_without(calls: str) -> Any:
    """The output of ``level_program`` on a machine where these calls fail."""
    return json.loads(run_program(FOLDER / "restricted.py", calls, str(PROGRAM)))


@linux_only
def test_this_machine_offers_every_level() -> None:
    """Holds on any Linux from 6.12 on that allows user namespaces. If it fails, read ``missing``."""
    levels = find_level()
    assert AVAILABLE == ("strict", "landlock", "seccomp"), levels.missing
    assert levels.best == "strict"
    assert not levels.missing
    assert not levels.notes


@linux_only
def test_passed_dry_run_is_cached() -> None:
    levels = find_level()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert find_level() == levels
    assert resource.getrusage(resource.RUSAGE_CHILDREN) == before  # no process was started for that


@linux_only
@pytest.mark.parametrize("level", AVAILABLE)
async def test_prepared_zygote_stays_usable_after_dry_run(level: str) -> None:
    launcher = ZygoteLauncher(level)
    prepared = launcher.prepare()
    assert prepared is not None
    assert try_level(level, prepared) == try_level(level)
    assert prepared.is_ready
    sandbox = WorkerSandbox(launcher)
    assert (await run_once(sandbox, "print(1)")).stdout == "1\n"
    assert launcher.zygote_pid == prepared.process.pid
    await sandbox.aclose()


@linux_only
@pytest.mark.parametrize("moment", ["while it starts", "when it is ready"])
def test_killed_zygote_does_not_fail_dry_run(moment: str) -> None:
    launcher = ZygoteLauncher(AVAILABLE[0])
    prepared = launcher.prepare()
    assert prepared is not None
    if moment == "when it is ready":
        assert select.select([prepared.control], [], [], 20)[0]
    prepared.process.kill()
    prepared.process.wait()
    assert try_level(AVAILABLE[0], prepared) == try_level(AVAILABLE[0])
    launcher.discard()


@linux_only
def test_missing_package_does_not_fail_dry_run(tmp_path: Path) -> None:
    program = """
import sys
from rlm.core.errors import ConfigurationError
from rlm.sandbox.launchers.levels import find_level, open_launcher
sys.path.append(sys.argv[1])
try:
    open_launcher("auto", packages=("broken_package",), prepare=True)
except ConfigurationError as error:
    print(error)
print(find_level().best)
"""
    (tmp_path / "broken_package.py").write_text("raise ValueError('it is broken')")
    command = [sys.executable, "-c", program, str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines == ["sandbox_packages: broken_package: ValueError: it is broken", AVAILABLE[0]]


@root_only
def test_ordinary_user_has_same_levels() -> None:
    report = json.loads(run_program(PROGRAM, ordinary=True))
    assert report["user"] != 0
    assert report["best"] == "strict"
    assert report["asked"] == {
        "auto": "strict: SOME CONTEXT",
        "strict": "strict: SOME CONTEXT",
        "landlock": "landlock: SOME CONTEXT",
        "seccomp": "seccomp: SOME CONTEXT",
    }


@linux_only
def test_landlock_level_without_user_namespaces() -> None:
    report = levels_without("userns")
    assert report["best"] == "landlock"
    assert "unshare" in report["missing"]["strict"]
    assert report["asked"]["auto"] == "landlock: SOME CONTEXT"
    assert report["asked"]["strict"].startswith("unavailable: sandbox level 'strict' is not available here: ")


@linux_only
def test_landlock_level_without_mounts() -> None:
    """As on a machine that allows user namespaces but gives them no rights."""
    assert levels_without("mount")["best"] == "landlock"


@linux_only
def test_strict_level_without_landlock() -> None:
    report = levels_without(LANDLOCK)
    assert report["best"] == "strict"
    assert report["asked"]["landlock"].startswith("unavailable: ")
    assert "landlock" in report["asked"]["landlock"]


@linux_only
def test_seccomp_level_without_namespaces_and_landlock() -> None:
    report = levels_without(f"userns,{LANDLOCK}")
    assert report["best"] == "seccomp"
    assert set(report["missing"]) == {"strict", "landlock"}
    assert report["asked"]["auto"] == "seccomp: SOME CONTEXT"


@linux_only
def test_code_is_refused_without_any_isolation() -> None:
    report = levels_without("userns,seccomp")
    assert report["best"] is None
    assert report["asked"]["auto"].startswith("unavailable: this machine offers no isolation")
    assert "unconfined" in report["asked"]["auto"]
    assert all(text.startswith("unavailable: ") for text in report["asked"].values())


def test_unknown_level_is_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="must be one of auto, strict"):
        open_launcher("docker")


@linux_only
def test_level_of_other_system_is_refused() -> None:
    with pytest.raises(SandboxUnavailableError, match="Seatbelt"):
        open_launcher("seatbelt")


def test_unconfined_needs_explicit_request() -> None:
    assert open_launcher("unconfined").level == "unconfined"
    assert open_launcher("auto").level != "unconfined"


@pytest.mark.skipif(sys.platform == "linux", reason="Linux has them")
def test_linux_levels_are_refused_elsewhere() -> None:
    with pytest.raises(SandboxUnavailableError, match="needs Linux"):
        try_level("strict")


@linux_only
def test_dry_runs_leave_no_process() -> None:
    before = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    for level in AVAILABLE:
        try_level(level)
    after = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert after.count("selfcheck") <= before.count("selfcheck")
