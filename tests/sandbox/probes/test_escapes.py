"""Escape probes at all levels of this machine, as root and as an ordinary user. All are held; unconfined, many are not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from zygote_kit import AVAILABLE, FOLDER, linux_only, root_only, run_program

from rlm.core.errors import SandboxError
from rlm.sandbox.launchers.levels import open_launcher
from rlm.sandbox.probes.probe import ProbeResult
from rlm.sandbox.probes.run import ALL, run_probes

MOST_HARMLESS = 7
PROGRAM = FOLDER / "probe_program.py"
HARMLESS_TO_RUN = (
    "files.read a secret of the host",
    "files.list the root",
    "network.connect to a server of the host",
    "network.an abstract local socket",
    "processes.fork",
    "processes.run a program",
    "processes.see the host",
    "memory.pages written and executed",
    "abuse.descriptor bomb",
)


def reached(results: list[ProbeResult]) -> list[ProbeResult]:
    return [result for result in results if result.verdict == "reached"]


def test_probes_are_many_and_uniquely_named() -> None:
    names = [probe.name for probe in ALL]
    assert len(set(names)) == len(names) >= 200
    assert sum(bool(probe.harmless) for probe in ALL) == MOST_HARMLESS


@linux_only
@pytest.mark.parametrize("level", AVAILABLE)
async def test_all_probes_are_held(level: str) -> None:
    results = await run_probes(open_launcher(level))
    assert reached(results) == []
    assert len(results) == len(ALL) + 1
    assert sum(result.verdict == "held" for result in results) >= len(ALL) - MOST_HARMLESS - 10


@root_only
@pytest.mark.parametrize("level", AVAILABLE)
def test_all_probes_are_held_for_ordinary_user(level: str) -> None:
    report = json.loads(run_program(PROGRAM, level, ordinary=True))
    results = [ProbeResult(*item) for item in report["results"]]
    assert report["user"] != 0
    assert reached(results) == []
    assert sum(result.verdict == "held" for result in results) >= len(ALL) - MOST_HARMLESS - 10


@linux_only
async def test_probes_succeed_without_confinement() -> None:
    """Otherwise the probes would prove nothing."""
    probes = [probe for probe in ALL if probe.name in HARMLESS_TO_RUN]
    assert len(probes) == len(HARMLESS_TO_RUN)
    results = await run_probes(open_launcher("unconfined"), probes)
    assert {result.name for result in reached(results)} == set(HARMLESS_TO_RUN)


@linux_only
async def test_harmful_probes_do_not_run_unconfined() -> None:
    probe = next(probe for probe in ALL if probe.name == "abuse.fork bomb")
    results = await run_probes(open_launcher("unconfined"), [probe, replace(probe, name="kernel.reboot", code="1")])
    assert [result.verdict for result in results[:2]] == ["not run", "not run"]


@linux_only
async def test_launcher_survives_probe_that_breaks_its_repl() -> None:
    launcher = open_launcher("strict" if "strict" in AVAILABLE else AVAILABLE[0])
    probe = next(probe for probe in ALL if probe.name == "wire.garbage")
    results = await run_probes(launcher, [probe] * 5)
    assert [result.verdict for result in results] == ["held"] * 6
    with pytest.raises(SandboxError):  # run_probes closed it
        await run_probes(launcher, [probe])
