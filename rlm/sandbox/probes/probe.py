"""What a probe is, and what came of one."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["held", "reached", "harmless", "not run"]
"""``held``: the attempt failed or the REPL ended. ``reached``: it succeeded. ``harmless``: it succeeded, and the probe says
why that does not matter. ``not run``: this machine or this level cannot be probed in this way; the detail says why."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One attempt.

    Attributes:
        name: short, unique; ``area.attempt``.
        code: a cell. Its last expression is true when the attempt succeeded; an exception means that it failed. The names
            of ``run.PRELUDE`` are defined.
        harmless: why success does no harm; empty where it would.
        protocol: the attempt is on the host's end of the wire: held when that REPL alone was ended, or nothing came of it.
        seconds: the cell's limit; abuses that never end on their own are stopped by it.
    """

    name: str
    code: str
    harmless: str = ""
    protocol: bool = False
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What came of one probe: its name, the verdict, and a detail for people."""

    name: str
    verdict: Verdict
    detail: str


def probes(area: str, entries: dict[str, str]) -> tuple[Probe, ...]:
    """Probes of one area from names and cells."""
    return tuple(Probe(f"{area}.{name}", textwrap.dedent(code).strip()) for name, code in entries.items())
